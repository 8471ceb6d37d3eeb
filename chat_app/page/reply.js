// One reply: who answered, its text, what went otherwise than planned, its rating.

function createReply(id, actions) {
  const reasons = createReasons(id, {better: () => actions.regenerate(id)}), rating = createRating(id, reasons.takeThumb, isRated => isRated && actions.rated());
  const version = createVersionLabel(), receipt = createReceipt(id), correction = createCorrection(id);
  const body = make('div', {class: 'reply-body'});
  const waiting = make('p', {class: 'reply-waiting'}, make('span', {class: 'dots', 'aria-hidden': 'true'}, make('i'), make('i'), make('i')), make('span', {'aria-live': 'polite'}, words.waiting));
  const notes = make('div', {class: 'reply-notes'});
  const copy = labelled(iconButton('copy', words.copy, onCopy), words.tool_copy);
  const again = labelled(iconButton('again', words.regenerate, () => actions.regenerate(), {class: 'icon-button again'}), words.tool_again);
  const better = labelled(iconButton('pair', words.better, () => actions.regenerate(id), {class: 'icon-button better'}), words.tool_better);
  const earlier = iconButton('back', words.earlier_attempt, () => actions.page(-1));
  const later = iconButton('forth', words.later_attempt, () => actions.page(1));
  const count = make('span', {class: 'attempt-count'});
  const pager = make('div', {class: 'attempts', role: 'group'}, earlier, count, later);
  const tools = make('div', {class: 'tools'}, pager, again, better, labelled(correction.button, words.tool_correct), copy);
  const lines = make('div', {class: 'reply-lines'}, reasons.line, receipt.line);
  const node = make('article', {class: 'reply', 'data-reply': id, 'aria-label': words.assistant},
    version.node, waiting, body, notes, correction.shown, make('div', {class: 'reply-bar'}, rating.group, tools), rating.failure, rating.waits, lines, correction.editor, reasons.panel, receipt.panel);
  let wasWriting = false;

  async function onCopy() {
    await copyText(body.innerText);
    copy.firstChild.replaceWith(icon('check'));
    actions.announce(words.copied);
    setTimeout(() => copy.firstChild.replaceWith(icon('copy')), 1500);
  }

  function noteLines(reply) {
    const lines = [];
    if (reply.dropped_turns > 0) lines.push([say('dropped', {n: reply.dropped_turns}), '']);
    if (reply.state === 'failed') lines.push([reply.said && tell(reply.said) || words.broke, 'problem']);
    else if (reply.finish === 'cancelled') lines.push([words.stopped, '']);
    else if (reply.finish === 'length') lines.push([words.cut, '']);
    else if (reply.state === 'done' && !reply.html.trim()) lines.push([words.empty, '']);
    if (reply.contributes === false) lines.push([words.private_note, '']);
    return lines;
  }

  function showNotes(lines) {
    if (notes.shownLines === String(lines)) return;
    notes.shownLines = String(lines);
    notes.replaceChildren(...lines.map(([text, kind]) => make('p', {class: `reply-note ${kind}`}, text)));
  }

  // `place`: which attempt this is ({index, of}); `isLast`: whether it answers the newest message.
  function show(reply, place, isLast, busy) {
    const writing = reply.state === 'streaming';
    version.show(reply.version);
    patchHtml(body, reply.html);
    body.classList.toggle('writing', writing);
    node.setAttribute('aria-busy', writing);
    waiting.hidden = !writing || reply.html !== '';
    setText(waiting.lastChild, reply.place ? say('in_line', {n: reply.place}) : words.waiting);
    showNotes(noteLines(reply));
    rating.setWaits(!writing && reply.contributes === null);
    copy.hidden = writing || !reply.html;
    again.hidden = !isLast || writing || busy;
    better.hidden = again.hidden || reply.state !== 'done';
    reasons.offerBetter(!better.hidden, !isLast && reply.state === 'done');
    correction.button.hidden = copy.hidden;
    if (reply.state === 'done') correction.setOriginal(reply.text);
    pager.hidden = place.of < 2;
    pager.setAttribute('aria-label', say('attempt', {n: place.index + 1, of: place.of}));
    setText(count, `${place.index + 1}/${place.of}`);
    earlier.disabled = place.index === 0;
    later.disabled = place.index === place.of - 1;
    if (wasWriting && !writing) actions.announce(words.reply_done);
    wasWriting = writing;
  }

  // A line about this reply and another one, or none.
  function showLine(line) {
    arrange(lines, [reasons.line, receipt.line, ...line ? [line] : []]);
  }

  function takeMarks({outcome, reasons: said, correction: corrected}, askedAt) {
    correction.take(corrected, askedAt);
    receipt.take(outcome);
    reasons.take(said, askedAt);
  }

  return {node, rating, show, showLine, takeMarks, refresh: receipt.refresh};
}

// The clipboard needs https or localhost; elsewhere a hidden field does it.
async function copyText(text) {
  if (navigator.clipboard && isSecureContext) return navigator.clipboard.writeText(text);
  const field = make('textarea', {class: 'sr', 'aria-hidden': 'true'});
  field.value = text;
  element.append(field);
  field.select();
  document.execCommand('copy');
  field.remove();
}
