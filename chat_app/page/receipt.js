// What came of a rating: one quiet line under the reply, and a small panel behind it that is fetched when it is opened.

function createReceipt(replyId) {
  const line = make('button', {type: 'button', class: 'quiet-line receipt-line', hidden: true, 'aria-expanded': 'false', on: {click: toggle}});
  const panel = make('div', {class: 'panel receipt-panel', hidden: true, role: 'group', tabindex: '-1'});
  const beside = createThenAndNow(replyId);
  let shownKey = '';

  async function toggle() {
    const opening = panel.hidden;
    if (opening) await fill();
    panel.hidden = !opening;
    line.setAttribute('aria-expanded', opening);
  }

  async function fill() {
    const askedAt = Date.now(), answer = await ask('ui_receipt', {reply: replyId});
    if (!answer.ok) return panel.replaceChildren(make('p', {class: 'problem'}, problem(answer)));
    panel.replaceChildren(...explain(answer.receipt), ...(answer.receipt.version ? [beside.node] : []));
    beside.take(answer.beside, askedAt);
  }

  // `outcome`: {version, refused} as the server last told it, or nothing.
  function take(outcome) {
    const key = outcome ? `${outcome.version}/${outcome.refused}` : '';
    if (key === shownKey) return;
    shownKey = key;
    line.hidden = !outcome;
    panel.hidden = panel.hidden || !outcome;
    if (!outcome) return;
    const text = outcome.version ? say('receipt', {version: versionName(outcome.version)}) : words.receipt_refused;
    line.replaceChildren(icon(outcome.version ? 'check' : 'info'), make('span', {}, text));
    panel.setAttribute('aria-label', text);
    if (!panel.hidden) fill();
  }

  // Another version answers now: what is open says what that makes of it.
  function refresh() {
    if (!panel.hidden) fill();
  }

  return {line, panel, take, refresh};
}

// The panel's sentences.
function explain(receipt) {
  const lines = [];
  if (receipt.version) {
    const version = versionName(receipt.version);
    lines.push(make('p', {}, say('receipt_used', {ratings: ratingList(receipt.used), version, n: receipt.replies, percent: percent(receipt.share)})));
    lines.push(make('p', {}, together(pushed(receipt), likelihood(receipt))));
    if (receipt.corrected?.towards) lines.push(make('p', {}, together(words.receipt_corrected, likelihood(receipt.corrected))));
    if (receipt.changed) lines.push(make('p', {}, words.receipt_changed));
    if (receipt.checked.reason) lines.push(toldLine(receipt.checked, {class: 'muted'}));
    if (receipt.also.length) lines.push(make('p', {class: 'muted'}, say('receipt_also', {versions: listed(receipt.also.map(versionName))})));
  }
  if (receipt.refused) {
    lines.push(make('p', {}, words.receipt_refused_detail));
    if (receipt.refused.reason) lines.push(toldLine(receipt.refused, {class: 'muted'}));
  }
  if (receipt.pairs?.length) lines.push(make('details', {}, make('summary', {}, words.before_after), ...receipt.pairs.map(pair => beforeAndAfter(pair, receipt.version))));
  return lines;
}

function pushed({towards}) {
  return towards === null ? words.receipt_beside : towards ? words.receipt_towards : words.receipt_away;
}

function likelihood({times, tokens}) {
  if (times > 0.97 && times < 1.03) return words.receipt_same;
  const shown = new Intl.NumberFormat(language, {maximumSignificantDigits: 2}).format(times);
  return say('receipt_times', {times: shown, tokens});
}

function ratingList(used) {
  const names = [];
  if (used.thumb) names.push(used.thumb > 0 ? words.thumb_up : words.thumb_down);
  if (used.stars) names.push(say('n_stars', {n: used.stars}));
  names.push(...(used.tags || []).map(tag => words.reasons[tag]));
  if (used.correction) names.push(words.corrected);
  if (used.comparisons) names.push(say('receipt_comparisons', {n: used.comparisons}));
  return listed(names);
}

function percent(share) {
  return new Intl.NumberFormat(language, {style: 'percent', maximumSignificantDigits: 2}).format(share);
}

function beforeAndAfter({prompt, before, after}, version) {
  const side = (title, text) => make('div', {}, make('h3', {}, title), make('p', {}, text || words.empty));
  return make('div', {class: 'pair'}, make('p', {class: 'pair-prompt'}, prompt), side(words.before, before), side(upperFirst(versionName(version)), after));
}
