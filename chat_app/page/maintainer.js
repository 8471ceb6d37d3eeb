// The maintainer's page: the sign-in form, or training, versions, ratings and sampling settings.

const SOON = 1000, LATER = 4000;             // ms between looks at the server, while something trains and else
let timer = null, expected = null;           // `expected`: the version that was chosen here and is on its way
let missed = false;                          // whether the notice is about a look that failed, and goes with the next one

const training = createTraining({train: () => act('ui_train'), stopTraining: () => act('ui_stop_training', {}, () => words.stopping)});
const versions = createVersions({
  makeLive: version => act('ui_make_live', {version}, answer => { expected = answer.live; }),
  rollBack: () => act('ui_roll_back', {}, answer => { expected = answer.live; }),
});
const ratings = make('ul', {class: 'rating-list', tabindex: 0, 'aria-labelledby': 'ratings-title'});
const agreement = make('div', {class: 'agreement muted', hidden: true});
const asking = make('p', {class: 'muted asking'});
const sampling = make('dl', {class: 'figures'});
const notice = make('p', {class: 'notice', role: 'status', hidden: true});
const signOut = make('form', {method: 'post', action: 'sign-out', hidden: true}, make('button', {class: 'quiet-button'}, words.sign_out));
const main = make('div', {class: 'column'});
const dashboard = [notice, training.node, versions.node,
  make('section', {class: 'card', 'aria-labelledby': 'ratings-title'}, make('h2', {id: 'ratings-title'}, words.ratings), agreement, asking, ratings), training.runs,
  make('section', {class: 'card', 'aria-labelledby': 'sampling-title'}, make('h2', {id: 'sampling-title'}, words.settings), sampling)];

element.replaceChildren(make('header', {class: 'topbar'},
  make('a', {class: 'brand', href: './', 'aria-label': words.home}, make('span', {class: 'mark', 'aria-hidden': 'true'}, icon('star')), make('h1', {}, words.m_title)),
  make('span', {class: 'spacer'}), make('a', {class: 'quiet-button', href: './'}, words.to_chat), signOut), main);
document.title = `${words.m_title} · ${words.product}`;
look();
document.addEventListener('visibilitychange', () => { if (!document.hidden) look(); });

async function look() {
  clearTimeout(timer);
  const answer = await ask('ui_overview');
  if (answer.ok && missed) notice.hidden = true;
  if (answer.ok) show(answer.overview);
  else if (answer.kind === 'NotAllowed') showSignIn();
  else { showNotice(problem(answer), true); missed = true; }
  const moving = answer.ok && (answer.overview.waiting || answer.overview.change || answer.overview.runs[0]?.state === 'running');
  if (!document.hidden && answer.kind !== 'NotAllowed') timer = setTimeout(look, moving ? SOON : LATER);
}

async function act(name, payload = {}, success = null) {
  const answer = await ask(name, payload);
  if (!answer.ok) showNotice(problem(answer), true);
  else {
    const said = success?.(answer);
    if (said) showNotice(said, false); else notice.hidden = true;
  }
  await look();
}

function show(overview) {
  arrange(main, dashboard);
  signOut.hidden = false;
  training.show(overview);
  versions.show(overview);
  if (expected !== null && expected === overview.serving) showNotice(say('made_live', {version: versionName(expected)}), false);
  if (!overview.change) expected = null;
  showRatings(overview.recent_feedback);
  showAgreement(overview.agreement);
  setText(asking, askingWords(overview.asking));
  if (notice.textContent === words.stopping && overview.runs[0]?.state !== 'running') notice.hidden = true;
  sampling.replaceChildren(...Object.entries(overview.sampling).map(([name, value]) => make('div', {}, make('dt', {}, words[name] || name), make('dd', {}, String(value)))));
}

function showRatings(recent) {
  const key = JSON.stringify(recent);
  if (ratings.shownKey === key) return;
  ratings.shownKey = key;
  const rows = recent.map(rating => make('li', {'data-kind': rating.kind},
    make('span', {class: `rating-value ${rating.kind}${rating.value < 0 ? ' low' : rating.value === 0 ? ' none' : ''}`}, ratingWords(rating)),
    make('div', {class: 'rating-of'}, make('p', {}, rating.message), make('p', {class: 'muted clipped'}, rating.reply), ...wordsOf(rating)),
    make('span', {class: 'muted'}, `${upperFirst(versionName(rating.version))} · ${shortTime(rating.when)}`)));
  ratings.replaceChildren(...(rows.length ? rows : [make('li', {class: 'muted'}, words.no_ratings)]));
}

// What was said beside thumbs and stars, whole: it is why a maintainer looks.
function wordsOf({kind, tags, comment, text, same, other}) {
  const line = sentence => make('p', {class: 'rating-words'}, sentence);
  if (kind === 'correction') return [line(say('m_should_be', {text}))];
  if (kind === 'comparison') return [line(same ? say('m_same_as', {text: other || words.empty}) : say('m_better_than', {text: other || words.empty}))];
  return [tags?.length ? line(listed(tags.map(tag => words.reasons[tag]))) : null, comment ? line(say('m_comment', {text: comment})) : null];
}

function ratingWords({kind, value}) {
  if (kind === 'reasons') return words.m_reasons;
  if (kind === 'correction') return words.m_correction;
  if (kind === 'comparison') return words.m_comparison;
  if (value === 0) return words.back;
  if (kind === 'thumb') return value > 0 ? words.thumb_up : words.thumb_down;
  return say('n_stars', {n: value});
}

// How far people agree who rated the same replies; nothing while those are few.
function showAgreement({thumb, stars}) {
  const alpha = ({alpha: value}) => value === null ? words.agree_undefined : value.toFixed(2);
  const lines = [thumb && say('agree_thumb', {n: thumb.replies, percent: `${Math.round(100 * thumb.same)}%`, alpha: alpha(thumb)}),
    stars && say('agree_stars', {n: stars.replies, alpha: alpha(stars)})].filter(Boolean);
  agreement.hidden = lines.length === 0;
  arrange(agreement, lines.map((_, i) => agreement.children[i] || make('p', {})));
  lines.forEach((line, i) => setText(agreement.children[i], line));
}

// By what the app chooses the replies that it asks to compare with another one.
function askingWords({share, model}) {
  const percent = `${+(100 * share).toFixed(1)}%`;
  if (!share) return words.asks_nothing;
  return model ? say('asks_by_ratings', {percent, n: model.replies, correlation: model.correlation.toFixed(2)}) : say('asks_by_words', {percent});
}

function showSignIn() {
  signOut.hidden = true;
  if (main.querySelector('.sign-in')) return;
  const refused = new URLSearchParams(location.search).get('refused');
  const failed = refused ? make('p', {class: 'problem', role: 'alert'}, refused === 'wait' ? words.sign_in_wait : words.sign_in_failed) : null;
  const checking = make('p', {class: 'muted', role: 'status'});
  const form = make('form', {class: 'sign-in-form', method: 'post', action: 'sign-in', on: {submit: () => setText(checking, words.sign_in_checking)}},
    make('label', {for: 'password'}, words.password),
    make('input', {id: 'password', name: 'password', type: 'password', autocomplete: 'current-password', required: true}),
    make('button', {class: 'main-button'}, words.sign_in), checking);
  arrange(main, [make('section', {class: 'card sign-in'}, make('h2', {}, words.sign_in),
    make('p', {}, props.password ? words.sign_in_password : words.sign_in_link), failed, props.password ? form : null)]);
  main.querySelector('input')?.focus();
}

function showNotice(text, isProblem) {
  missed = false;
  notice.classList.toggle('problem', isProblem);
  setText(notice, text);
  notice.hidden = false;
}
