// A second opinion: somebody else's exchange, to be rated like one's own, at a quiet moment and only if one likes.
// It stands below the conversation, takes no focus and is in nobody's way; a message sent meanwhile puts it off.

// `isQuiet()`: whether nothing is being written, here or by the model; `appear(show)` calls `show` and keeps the foot of the page in sight;
// `refocus()` takes the focus, which the card had as it left.
function createOpinion({isQuiet, appear, announce, refocus}) {
  const title = make('h2', {class: 'panel-title', id: 'opinion-title'}, words.opinion_title);
  const task = make('p', {class: 'opinion-task'});
  const exchange = make('div', {class: 'opinion-exchange'});
  const end = make('button', {type: 'button', class: 'quiet-button', on: {click: onEnd}});
  const [used, usedHere] = [0, 1].map(() => make('p', {class: 'opinions-used', hidden: true}, icon('check'), make('span')));
  const node = make('section', {class: 'panel opinion', 'aria-labelledby': 'opinion-title', hidden: true}, title, make('p', {class: 'muted'}, words.opinion), usedHere, task, exchange);
  let wanted = false, shown = null, rated = false;

  // A rating of their own was saved: ask at the next quiet moment.
  function want() { wanted = true; }

  // A moment has passed; was it a quiet one?
  async function look() {
    if (!wanted || shown || !isQuiet()) return;
    wanted = false;
    const answer = await ask('ui_second_opinion');
    if (answer.ok && answer.opinion && isQuiet()) appear(() => show(answer.opinion));
  }

  function show(opinion) {
    shown = opinion;
    const body = make('div', {class: 'reply-body'}), rating = createRating(opinion.reply, () => {}, setRated);
    patchHtml(body, opinion.html);
    exchange.replaceChildren(make('div', {class: 'message', role: 'group', 'aria-label': words.opinion_message}, make('div', {class: 'bubble'}, opinion.message)),
      make('div', {role: 'group', 'aria-label': words.assistant}, body, make('div', {class: 'reply-bar'}, rating.group, end), rating.failure));
    setText(task, say('opinion_task', {task: words.tasks[opinion.task]?.name}));
    task.hidden = opinion.task === TASK_NAMES[0];
    setRated(false);
    node.hidden = false;
    announce(words.opinion_here);
  }

  function setRated(isRated) {
    rated = isRated;
    setText(end, rated ? words.done : words.not_now);
  }

  function onEnd() {
    if (!rated) ask('ui_not_now', {reply: shown.reply});
    leave();
  }

  // Away for now; unanswered, it comes again after another rating.
  function leave() {
    const hadFocus = node.contains(document.activeElement);
    wanted = false;
    shown = null;
    node.hidden = true;
    if (hadFocus) refocus();
  }

  // What came of those that this person gave before: {replies, version}, or nothing yet.
  function setUsed(opinions) {
    for (const line of [used, usedHere]) {
      line.hidden = !opinions;
      if (opinions) setText(line.lastChild, say('opinions_used', {n: opinions.replies, version: versionName(opinions.version)}));
    }
  }

  // `used`: that line, for a quiet place where no card is.
  return {node, used, want, look, leave, setUsed};
}
