"""The configurations that ship with secondstage, as YAML."""
