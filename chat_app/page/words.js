// What the page says: in the chosen language, else the browser's (`?lang=en` or `?lang=zh` overrides both).

const language = (new URLSearchParams(location.search).get('lang') || browserStore.get('language') || navigator.language || 'en').toLowerCase().startsWith('zh') ? 'zh' : 'en';
const words = props.strings[language];
document.documentElement.lang = language === 'zh' ? 'zh-CN' : 'en';

// A sentence of the catalogue; `n` chooses between `none`, `one` and `many`, and {Version} starts a sentence.
function say(key, values = {}) {
  let sentence = words[key];
  if (typeof sentence === 'object') sentence = sentence[values.n === 0 && sentence.none ? 'none' : values.n === 1 ? 'one' : 'many'];
  return sentence.replace(/\{(\w+)\}/g, (_, name) => name === 'Version' ? upperFirst(values.version) : values[name] ?? '');
}

// What the learner wrote down, or an error: a code of the catalogue with its values, some of which may be such again. '' where one of
// them is not in this catalogue, as from an earlier run, or a newer learner on another host.
function tell(said) {
  let sentence = words.said[said.code] ?? '';
  if (Object.values(said).some((value) => value?.code && !tell(value))) return '';
  if (typeof sentence === 'object') sentence = sentence[said.n === 1 ? 'one' : 'many'];
  return sentence.replace(/\{(\w+)(?::([^}]+))?\}/g, (_, name, format) => said[name]?.code ? tell(said[name]) : formatted(said[name], format));
}

// Why a run or a version came to what it did, in the page's language; from before there were codes it is English.
function toldLine({said, reason}, attributes) {
  const sentence = said ? tell(said) : '';
  return make('p', sentence ? attributes : {...attributes, lang: 'en'}, sentence || reason);
}

// The formats that data/sentences.py knows.
function formatted(value, format) {
  if (format === '.0%') return `${Math.round(100 * value)}%`;
  if (format === ',') return value.toLocaleString('en');
  if (format?.endsWith('f')) return (format[0] === '+' && value >= 0 ? '+' : '') + value.toFixed(format.at(-2));
  return value ?? '';
}

function upperFirst(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

// Several names in a row, as each language sets them apart.
function listed(names) {
  return names.join(language === 'zh' ? '、' : ', ');
}

// Sentences one after the other; those that are '' are left out.
function together(...sentences) {
  return sentences.filter(Boolean).join(language === 'zh' ? '' : ' ');
}

// `null`: the reply came from a file, no version wrote it.
function versionName(number) {
  if (number === null) return words.imported;
  return number === 0 ? words.base_model : say('version', {n: number});
}

// A refused call as a sentence: what the catalogue has for it, else the server's own.
function problem(answer) {
  return answer.said && tell(answer.said) || words.errors[answer.kind] || answer.error || words.errors.Unexpected;
}
