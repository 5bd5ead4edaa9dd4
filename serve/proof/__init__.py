"""The proof: is the pipeline better than the first stage here, by how much, how sure, at what cost?"""
