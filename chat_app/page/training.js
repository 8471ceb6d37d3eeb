// Training: fresh ratings, the button, where the present run is, how the last ones ended.

function createTraining({train, stopTraining}) {
  const count = make('strong', {class: 'big-number'}), countLabel = make('span', {});
  const start = make('button', {type: 'button', class: 'main-button', on: {click: onStart}}, words.train);
  const stop = make('button', {type: 'button', class: 'quiet-button', hidden: true, on: {click: stopTraining}}, words.stop_training);
  const schedule = make('p', {class: 'muted'});
  const stage = make('p', {class: 'stage', role: 'status'});
  const bar = make('div', {class: 'bar', role: 'progressbar', 'aria-label': words.progress, 'aria-valuemin': 0, 'aria-valuemax': 100}, make('div', {class: 'bar-fill'}));
  const figures = make('dl', {class: 'figures'});
  const running = make('div', {class: 'running', hidden: true}, stage, bar, figures);
  const runs = make('ul', {class: 'run-list'});
  const runsCard = make('section', {class: 'card', 'aria-labelledby': 'runs-title'}, make('h2', {id: 'runs-title'}, words.runs), runs);

  function onStart() {
    if (start.getAttribute('aria-disabled') !== 'true') train();
  }

  function showProgress(run) {
    const at = run.progress, known = at.steps > 0;
    setText(stage, words.stages[at.stage] || at.stage);
    bar.classList.toggle('unknown', !known);
    if (known) bar.setAttribute('aria-valuenow', Math.round(100 * at.step / at.steps)); else bar.removeAttribute('aria-valuenow');
    bar.firstChild.style.width = known ? `${100 * at.step / at.steps}%` : '';
    const rows = [[words.step, `${at.step} / ${at.steps}`], [words.loss, number(at.loss)], [words.reward, number(at.reward)],
                  [words.kl, number(at.kl)], [words.time_left, duration(at.seconds_left)]];
    figures.replaceChildren(...(known ? rows : []).map(([name, value]) => make('div', {}, make('dt', {}, name), make('dd', {}, value ?? '–'))));
  }

  function showSchedule({every_ratings: ratings, every_hours: hours, due_at: due}) {
    const key = ratings && hours ? 'schedule' : ratings ? 'schedule_ratings' : hours ? 'schedule_hours' : 'schedule_off';
    setText(schedule, say(key, {ratings, hours}) + (hours && due ? ` ${say('due', {when: shortTime(due)})}` : ''));
  }

  function runRow(run) {
    const title = {published: say('run_published', {version: versionName(run.version ?? 0)}), refused: words.run_refused, nothing_to_do: words.run_nothing,
                   stopped: words.run_stopped, interrupted: words.run_interrupted, failed: words.run_failed, running: words.run_running}[run.state];
    const gate = run.report?.gate, details = [make('p', {class: 'muted'}, `${words.triggers[run.trigger] || run.trigger} · ${shortTime(run.started_at)}`)];
    if (run.report?.reason) details.push(toldLine(run.report, {class: 'reason'}));
    if (run.report?.refinement) details.push(toldLine(run.report.refinement, {class: 'muted'}));
    const told = run.report?.asking?.nothing < 0.5 ? run.report.asking.told_by : {};      // likelier than not that they go by anything
    if (Object.keys(told).length) details.push(make('p', {class: 'muted goes-by'}, goesBy(told)));
    if (run.error) details.push(toldLine({said: run.report?.said, reason: run.error}, {class: 'problem'}));
    if (gate?.replies?.length) details.push(beforeAfter(gate.replies));
    return make('li', {'data-run': run.id, class: `run ${run.state}`}, make('p', {class: 'run-title'}, make('strong', {}, title)), ...details);
  }

  // What a small model makes of the ratings, strongest first: features of replies and how surely they count.
  function goesBy(features) {
    const parts = Object.entries(features).slice(0, 3).map(([feature, share]) => {
      const told = {name: words.features[feature] || feature, percent: `${Math.round(100 * Math.abs(share))}%`};
      return share < 0 ? say('goes_by_less', told) : say('goes_by_more', told);
    });
    return say('goes_by', {features: listed(parts)});
  }

  // What the gate asked the base model and the candidate, as plain text.
  function beforeAfter(replies) {
    return make('details', {}, make('summary', {}, words.before_after), ...replies.map(({prompt, before, after}) => make('div', {class: 'pair'},
      make('p', {class: 'pair-prompt'}, prompt),
      make('div', {}, make('h3', {}, words.before), make('p', {}, before || words.empty)), make('div', {}, make('h3', {}, words.after), make('p', {}, after || words.empty)))));
  }

  return {
    node: make('section', {class: 'card training', 'aria-labelledby': 'training-title'}, make('h2', {id: 'training-title'}, words.training),
      make('div', {class: 'training-head'}, make('p', {class: 'fresh'}, count, countLabel), make('div', {class: 'buttons'}, stop, start)), running, schedule),
    runs: runsCard,
    show(overview) {
      const run = overview.runs[0], isRunning = run?.state === 'running', asked = overview.waiting && !isRunning;
      setText(count, String(overview.fresh_ratings));
      setText(countLabel, say('fresh_ratings', {n: overview.fresh_ratings}));
      const hadFocus = document.activeElement === stop;
      start.setAttribute('aria-disabled', isRunning || asked);            // disabled, it would lose the focus
      stop.hidden = !isRunning && !asked;
      if (hadFocus && stop.hidden) start.focus();
      running.hidden = !isRunning && !asked;
      if (isRunning) showProgress(run);
      if (asked) { setText(stage, words.asked); bar.classList.add('unknown'); figures.replaceChildren(); }
      showSchedule(overview.schedule);
      const ended = overview.runs.filter(each => each.state !== 'running'), key = JSON.stringify(ended.map(each => [each.id, each.state]));
      runsCard.hidden = ended.length === 0;
      if (runs.shownKey !== key) { runs.shownKey = key; runs.replaceChildren(...ended.map(runRow)); }
    },
  };
}

function number(value) {
  return value == null ? null : value.toFixed(3);
}

function duration(seconds) {
  if (seconds == null) return null;
  const whole = Math.max(0, Math.round(seconds));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`;
}
