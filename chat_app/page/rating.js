// Thumbs and stars of one reply. What is shown changes at once; it falls back to what the server last confirmed
// when saving fails.

// `onThumb(value, pressed)` hears of every thumb that is shown; `pressed`: it was given here and now.
// `onSaved(isRated)` hears when a change was saved; `isRated`: a thumb or stars are left.
function createRating(replyId, onThumb, onSaved) {
  const saves = createSaves('ui_rate');
  let confirmed = {}, shown = {}, isWaiting = false;

  const up = thumbButton('up', 1), down = thumbButton('down', -1);
  const stars = [1, 2, 3, 4, 5].map(starButton);
  const starGroup = make('div', {class: 'stars', role: 'radiogroup', 'aria-label': words.stars, title: words.clear_hint, on: {keydown: onStarKey, mouseleave: () => preview(0)}}, ...stars);
  const note = make('span', {class: 'rating-note', role: 'status'});
  const failure = make('p', {class: 'reply-note problem', role: 'alert', hidden: true});
  const waits = make('p', {class: 'reply-note', hidden: true}, words.saved_waits);
  const group = make('div', {class: 'rating', role: 'group', 'aria-label': words.rate}, up, down, starGroup, note);

  function thumbButton(name, value) {
    return iconButton('thumb', words[name], () => save('thumb', shown.thumb === value ? 0 : value), {class: `icon-button thumb ${name}`, 'aria-pressed': 'false'});
  }

  function starButton(n) {
    const label = say('star', {n});
    return make('button', {type: 'button', class: 'star', role: 'radio', 'aria-checked': 'false', 'aria-label': label, tabindex: '-1',
      on: {click: () => save('stars', shown.stars === n ? 0 : n), mouseenter: () => preview(n)}}, icon('star'));
  }

  // Arrows only move the focus, so that passing over a star does not save it; Enter and Space choose.
  function onStarKey(event) {
    const at = stars.indexOf(document.activeElement);
    const step = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1}[event.key];
    if (step) focusStar((at + step + 5) % 5);
    else if (event.key === 'Home') focusStar(0);
    else if (event.key === 'End') focusStar(4);
    else if (/^[1-5]$/.test(event.key)) { focusStar(event.key - 1); save('stars', Number(event.key)); }
    else if (['0', 'Delete', 'Backspace'].includes(event.key)) save('stars', 0);
    else return;
    event.preventDefault();
  }

  function focusStar(i) {
    stars.forEach((star, j) => { star.tabIndex = i === j ? 0 : -1; });
    stars[i].focus();
  }

  function preview(n) {
    stars.forEach((star, i) => star.classList.toggle('preview', i < n));
  }

  function paint(rating) {
    shown = rating;
    up.setAttribute('aria-pressed', rating.thumb === 1);
    down.setAttribute('aria-pressed', rating.thumb === -1);
    onThumb(rating.thumb, false);
    showWaits();
    stars.forEach((star, i) => {
      star.setAttribute('aria-checked', rating.stars === i + 1);
      star.classList.toggle('lit', i < (rating.stars || 0));
      if (!starGroup.contains(document.activeElement)) star.tabIndex = i + 1 === (rating.stars || 1) ? 0 : -1;
    });
  }

  function save(kind, value) {
    preview(0);
    paint({...shown, [kind]: value});
    if (kind === 'thumb') onThumb(value, true);
    setText(note, words.saving);
    failure.hidden = true;
    saves.save({reply: replyId, kind, value}, (answer, isLast) => settle(answer, isLast, value));
  }

  function settle(answer, isLast, value) {
    if (answer.ok) confirmed = answer.rating;
    else {
      setText(failure, say('not_saved', {why: problem(answer)}));
      failure.hidden = false;
    }
    if (!isLast) return;                        // a later click decides
    paint(confirmed);
    if (answer.ok) onSaved(Object.values(confirmed).some(Boolean));
    setText(note, !answer.ok ? '' : value === 0 ? words.taken_back : words.saved);
    note.classList.remove('fades');
    requestAnimationFrame(() => note.classList.add('fades'));
  }

  // What the server knows as of `askedAt`.
  function take(rating, askedAt) {
    if (!saves.isNews(askedAt)) return;
    confirmed = rating || {};
    paint(confirmed);
  }

  // Whether the reply waits for its person's consent: what is saved trains only after it.
  function setWaits(doesWait) {
    isWaiting = doesWait;
    showWaits();
  }

  function showWaits() {
    waits.hidden = !isWaiting || !Object.values(confirmed).some(Boolean);
  }

  paint({});
  return {group, failure, waits, take, setWaits};
}
