// What the server is doing: which version answers, how far it is with learning, how many ratings wait.

// `wentLive(version)` hears of a version that changed while the page was open.
function createStatus({wentLive}) {
  const model = make('span', {class: 'pill-model'}), version = make('span', {class: 'pill-version'});
  const pill = make('span', {class: 'pill version-pill'}, make('span', {class: 'pill-dot', 'aria-hidden': 'true'}), model, version);
  const doing = make('span', {class: 'learning-text'}), count = make('span', {class: 'learning-count'});
  const learning = make('span', {class: 'learning', role: 'progressbar', 'aria-valuemin': 0, 'aria-valuemax': 100, hidden: true},
    make('span', {class: 'spinner', 'aria-hidden': 'true'}), doing, count);
  const line = make('span', {class: 'doing-line'});
  let live = null, waiting = 0, contributes = null, work = null;

  function take(status) {
    setText(model, status.base_model);
    setText(version, versionName(status.version));
    pill.title = `${status.base_model} · ${versionName(status.version)}`;
    work = workOf(status);
    waiting = status.fresh_ratings;
    showWork();
    showLine();
    const before = live;
    live = status.version;
    if (before !== null && before !== live) wentLive(live);
  }

  // In a word or two and as a sentence; how far it is, where that is known. null: there is nothing to wait for.
  function workOf({run, loading}) {
    if (loading !== null) return {name: say('loading_short', {version: versionName(loading)}), sentence: say('loading_line', {version: versionName(loading)}), of: 0};
    if (run?.state !== 'running') return null;
    return {name: words.learning, sentence: run.steps ? say('learning_step', {step: run.step, of: run.steps}) : words.learning_line, step: run.step, of: run.steps};
  }

  function showWork() {
    learning.hidden = work === null;
    if (!work) return;
    setText(doing, work.name);
    setText(count, work.of ? `${work.step}/${work.of}` : '');
    learning.classList.toggle('counted', work.of > 0);
    learning.title = work.sentence;
    learning.setAttribute('aria-label', work.name);
    learning.setAttribute('aria-valuetext', work.sentence);
    if (work.of) learning.setAttribute('aria-valuenow', Math.round(100 * work.step / work.of)); else learning.removeAttribute('aria-valuenow');
  }

  // Whether what this person rates trains; null: they have not said so yet.
  function setContributes(doesContribute) {
    contributes = doesContribute;
    showLine();
  }

  // Where the header has no room for words, it stands here.
  function showLine() {
    setText(line, work ? work.sentence : waiting || contributes ? say('fresh', {n: waiting}) : words.fresh_none);
  }

  return {pill, learning, line, take, setContributes};
}
