// Which words of a text are those of the query: case and accents do not count, and a word may go on after the query's.

// So common that marking them says nothing; they are marked only where the query has no other word.
const COMMON = new Set(
  ("a an and any are as at be been but by can could did do does for from had has have how i if in into is it its me my " +
    "no not of on or our shall should so than that the their them then there these they this to us was we were what " +
    "when where which while who whom whose why will with would you your").split(" "),
);
const segmenter = new Intl.Segmenter(undefined, { granularity: "word" });

/** Lower case, without accents. */
export function fold(text) {
  return text.toLowerCase().normalize("NFKD").replace(/\p{M}/gu, "");
}

/** The words of a query that are marked: folded, each once. One in the plural stands for its singular, too. */
export function queryWords(query) {
  const words = [...new Set(wordsOf(query).map(({ segment }) => fold(segment)))].filter((word) => word);
  const telling = words.filter((word) => !COMMON.has(word));
  const kept = telling.length ? telling : words;
  return [...kept, ...kept.filter((word) => /^\p{L}{3,}[^\P{L}s]s$/u.test(word)).map((word) => word.slice(0, -1))];
}

/** `[start, end]` of every place in `text` where a word starts with one of `words`; the longest of them counts. */
export function matches(text, words) {
  const found = [];
  for (const { segment, index } of wordsOf(text)) {
    const folded = fold(segment);
    const length = Math.max(0, ...words.filter((word) => folded.startsWith(word)).map((word) => word.length));
    if (length) found.push([index, index + originalLength(segment, length)]);
  }
  return found;
}

/** The text as nodes, the words of the query in `<mark>`. */
export function marked(text, words) {
  const nodes = document.createDocumentFragment();
  let at = 0;
  for (const [start, end] of matches(text, words)) {
    const mark = document.createElement("mark");
    mark.textContent = text.slice(start, end);
    nodes.append(text.slice(at, start), mark);
    at = end;
  }
  nodes.append(text.slice(at));
  return nodes;
}

/** About `length` characters of the text, around the first word of the query. */
export function excerpt(text, words, length = 260) {
  if (text.length <= length) return text;
  const first = matches(text.slice(0, 20000), words)[0]?.[0] ?? 0;
  let start = first < length * 0.6 ? 0 : Math.max(0, first - 60);
  if (start) start += text.slice(start).search(/(?<=\s)\S/u);
  const end = start + length >= text.length ? text.length : start + text.slice(start, start + length).search(/\s\S*$/u);
  return (start ? "… " : "") + text.slice(start, end > start ? end : start + length) + (end < text.length ? " …" : "");
}

function wordsOf(text) {
  return [...segmenter.segment(text)].filter((found) => found.isWordLike);
}

/** How much of `word` makes up so many folded characters, with the accents that follow the last. */
function originalLength(word, length) {
  let [folded, end] = ["", 0];
  for (const letter of word) {
    if (folded.length >= length && fold(letter)) break;
    folded += fold(letter);
    end += letter.length;
  }
  return end;
}
