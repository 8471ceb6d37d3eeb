// Why: after a thumb, tags and (for a thumb down) a comment, all optional. A tag is saved when it is pressed, a comment
// when it is done. What is half-written belongs to the person: no answer of the server repaints it.

// `better()`: a person wants to see a better reply.
function createReasons(replyId, {better}) {
  const draftKey = `why-${replyId}`;
  const line = make('button', {type: 'button', class: 'quiet-line', hidden: true, 'aria-expanded': 'false', on: {click: () => open(panel.hidden)}});
  const title = make('p', {class: 'panel-title'});
  const chips = make('div', {class: 'chips'});
  const comment = make('textarea', {rows: 2, maxlength: 2000, 'aria-label': words.why_comment, placeholder: words.why_comment, on: {input: onInput, change: () => save(), keydown: onKey}});
  const note = make('span', {class: 'panel-note', role: 'status'});
  const done = make('button', {type: 'button', class: 'quiet-button', on: {click: onDone}}, words.done);
  const another = make('button', {type: 'button', class: 'quiet-button', hidden: true, on: {click: onBetter}}, icon('pair'), make('span', {}, words.better));
  const onlyNewest = make('span', {class: 'only-newest', hidden: true}, words.better_newest);
  const panel = make('div', {class: 'panel reasons', role: 'group', 'aria-label': words.why, hidden: true}, title, chips, comment, make('div', {class: 'panel-end'}, another, onlyNewest, note, done));
  const saves = createSaves('ui_reasons');
  let isPutAway = false;                 // by the person: what is still being saved does not bring it back
  let thumb = 0, canBetter = false, isOld = false, tags = [], confirmed = {tags: [], comment: ''};

  function onInput() {
    tabStore.set(draftKey, comment.value);
  }

  function onKey(event) {
    if (composing(event)) return;
    if (event.key === 'Escape' || (event.key === 'Enter' && (event.ctrlKey || event.metaKey))) { event.preventDefault(); onDone(); }
  }

  function onDone() {
    putAway();
    line.focus();
  }

  function onBetter() {
    putAway();
    better();
  }

  function putAway() {
    save();
    isPutAway = true;
    open(false);
  }

  function press(tag) {
    tags = tags.includes(tag) ? tags.filter(each => each !== tag) : [...tags, tag];
    paint();
    save();
  }

  function isDirty() {
    return tabStore.get(draftKey) !== null;
  }

  function save() {
    const said = {tags: [...tags], comment: comment.value};
    if (said.comment.trim() === confirmed.comment && String([...said.tags].sort()) === String([...confirmed.tags].sort())) return tabStore.remove(draftKey);
    setText(note, words.saving);
    saves.save({reply: replyId, ...said}, (answer, isLast) => {
      if (answer.ok) confirmed = answer.reasons;
      if (answer.ok && comment.value === said.comment) tabStore.remove(draftKey);
      if (isLast) noteSaved(note, answer, words.saved);
      if (!answer.ok) open(true);
      paint();
    });
  }

  function open(isOpen) {
    panel.hidden = !isOpen || !thumb;
    line.setAttribute('aria-expanded', !panel.hidden);
    paint();
  }

  function paint() {
    const known = props.reason_tags[thumb] || [], named = tags.filter(tag => known.includes(tag)).map(tag => words.reasons[tag]);
    line.hidden = !thumb || !panel.hidden;
    setText(line, named.length ? say('why_said', {tags: listed(named)}) : confirmed.comment ? words.why_commented : words.why);
    setText(title, thumb > 0 ? words.why_up : words.why_down);
    comment.hidden = thumb > 0 && !comment.value;
    another.hidden = thumb > 0 || !canBetter;
    onlyNewest.hidden = thumb > 0 || !isOld;
    if (chips.shownFor !== thumb) {
      chips.shownFor = thumb;
      chips.replaceChildren(...known.map(tag => make('button', {type: 'button', class: 'chip', 'data-tag': tag, on: {click: () => press(tag)}}, words.reasons[tag])));
    }
    for (const chip of chips.children) chip.setAttribute('aria-pressed', tags.includes(chip.dataset.tag));
  }

  comment.value = tabStore.get(draftKey) || '';
  return {
    line, panel,
    // The thumb as it is shown now; `pressed`: by the person, just now.
    takeThumb(value, pressed) {
      thumb = value || 0;
      if (pressed) isPutAway = false;
      if (pressed && thumb) setText(note, '');
      open(thumb !== 0 && (pressed || !panel.hidden || isDirty() && !isPutAway));
      if (pressed && thumb) panel.scrollIntoView({block: 'nearest'});
    },
    // Whether another attempt can be asked for now; `passed`: never again, as the conversation has gone on.
    offerBetter(isPossible, passed) {
      canBetter = isPossible;
      isOld = passed;
      paint();
    },
    // What the server knows as of `askedAt`.
    take(reasons, askedAt) {
      if (!saves.isNews(askedAt)) return;
      confirmed = reasons || {tags: [], comment: ''};
      tags = [...confirmed.tags];
      if (!isDirty() && document.activeElement !== comment) comment.value = confirmed.comment;
      paint();
    },
  };
}
