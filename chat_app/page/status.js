// What the server is doing: which version answers, whether it learns, how many ratings wait.

// `wentLive(version)` hears of a version that changed while the page was open.
function createStatus({wentLive}) {
  const model = make('span', {class: 'pill-model'}), version = make('span', {class: 'pill-version'});
  const pill = make('span', {class: 'pill version-pill'}, make('span', {class: 'pill-dot', 'aria-hidden': 'true'}), model, version);
  const learning = make('span', {class: 'learning', hidden: true}, make('span', {class: 'spinner', 'aria-hidden': 'true'}), make('span', {class: 'learning-text'}, words.learning));
  const fresh = make('span', {});
  let live = null, waiting = 0, contributes = null;

  function take(status) {
    setText(model, status.base_model);
    setText(version, versionName(status.version));
    pill.title = `${status.base_model} · ${versionName(status.version)}`;
    learning.hidden = status.run?.state !== 'running';
    waiting = status.fresh_ratings;
    showFresh();
    const before = live;
    live = status.version;
    if (before !== null && before !== live) wentLive(live);
  }

  // Whether what this person rates trains; null: they have not said so yet.
  function setContributes(doesContribute) {
    contributes = doesContribute;
    showFresh();
  }

  function showFresh() {
    setText(fresh, waiting || contributes ? say('fresh', {n: waiting}) : words.fresh_none);
  }

  return {pill, learning, fresh, take, setContributes};
}
