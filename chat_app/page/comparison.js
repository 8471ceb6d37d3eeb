// Two attempts at one message side by side, and which of them is better. What is chosen shows at once; it falls back to
// what the server last confirmed when saving fails.

// `ids`: the two replies; `askedBy`: `person` or `app`; `moved()`: it was opened or closed; `judged(better)`: the id of the better
// one, `same`, or null when it was taken back.
function createComparison(turnId, ids, askedBy, {moved, judged}) {
  const key = `compare-${turnId}`;
  // By their random ids: neither the older nor the newer one stands first more often, and after a reload it is the same one.
  const [first, second] = [...ids].sort();
  const sides = [side(words.reply_a), side(words.reply_b)];
  const choices = [choice('first', words.better_a), choice('same', words.better_same), choice('second', words.better_b)];
  const note = make('span', {class: 'panel-note', role: 'status'});
  const done = make('button', {type: 'button', class: 'quiet-button', on: {click: () => { setOpen(false); line.focus({preventScroll: true}); }}}, words.done);
  const node = make('section', {class: 'compare', role: 'group', 'aria-label': words.compare, tabindex: '-1'}, make('p', {class: 'panel-title'}, words.compare),
    make('div', {class: 'sides'}, ...sides), make('div', {class: 'choices', role: 'group', 'aria-label': words.compare}, ...choices), make('div', {class: 'panel-end'}, note, done));
  const line = make('button', {type: 'button', class: 'quiet-line compare-line', on: {click: open}}, icon('pair'), make('span'));
  const saves = createSaves('ui_compare');
  let isOpen = tabStore.get(key) !== null, confirmed = null, shown = null;

  function side(title) {
    return make('div', {class: 'side', role: 'group', 'aria-label': title}, make('h3', {}, title));
  }

  function choice(verdict, text) {
    return make('button', {type: 'button', class: 'chip', 'data-verdict': verdict, 'aria-pressed': 'false', on: {click: () => save(shown === verdict ? 'none' : verdict)}}, text);
  }

  // Open ones are remembered until they are closed, so that a reload finds them.
  function setOpen(opening) {
    isOpen = opening;
    if (isOpen) tabStore.set(key, JSON.stringify({ids, askedBy})); else tabStore.remove(key);
    moved();
  }

  function open() {
    setOpen(true);
    node.focus({preventScroll: true});
    node.scrollIntoView({block: 'nearest'});
  }

  function save(verdict) {
    paint(verdict);
    setText(note, words.saving);
    saves.save({first, second, preferred: verdict, asked_by: askedBy}, (answer, isLast) => {
      if (answer.ok) confirmed = answer.comparison;
      if (!isLast) return;
      noteSaved(note, answer, confirmed ? words.saved : words.taken_back);
      paint(verdictOf(confirmed));
      if (answer.ok) judged(confirmed ? confirmed.better : null);
    });
  }

  function verdictOf(comparison) {
    return {[first]: 'first', [second]: 'second', same: 'same'}[comparison?.better] || 'none';
  }

  function paint(verdict) {
    shown = verdict;
    for (const button of choices) button.setAttribute('aria-pressed', button.dataset.verdict === verdict);
    node.classList.toggle('judged', verdict !== 'none');
    sides.forEach((each, i) => each.classList.toggle('better', verdict === ['first', 'second'][i]));
  }

  paint('none');
  return {
    node, open,
    close: () => setOpen(false),
    holds: id => ids.includes(id),
    isOpen: () => isOpen,
    isJudged: () => confirmed !== null,
    // Puts the two replies in their places; `ready`: both are whole and can be judged.
    fill(nodeOf, ready) {
      [first, second].forEach((id, i) => arrange(sides[i], [sides[i].firstChild, nodeOf(id)]));
      for (const each of sides) each.tabIndex = each.scrollHeight > each.clientHeight ? 0 : -1;       // a long one scrolls by keyboard too
      for (const button of choices) button.disabled = !ready;
    },
    // The line under `replyId` that opens this.
    lineUnder(replyId) {
      setText(line.lastChild, !confirmed ? (askedBy === 'app' ? words.compare_offer : words.compare_again) : confirmed.better === 'same' ? words.compared_same
        : confirmed.better === replyId ? words.compared_better : words.compared_worse);
      return line;
    },
    // What the server knows as of `askedAt`.
    take(comparison, askedAt) {
      if (!saves.isNews(askedAt)) return;
      confirmed = comparison || null;
      paint(verdictOf(confirmed));
    },
  };
}

// The comparison that was open in this turn before a reload, as {ids, askedBy}, or null.
function openComparison(turnId) {
  return JSON.parse(tabStore.get(`compare-${turnId}`));
}
