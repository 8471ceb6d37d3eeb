// The welcome: what a new conversation is for, and messages to begin it with.

const TASK_NAMES = Object.keys(words.tasks);

// `begin(text)` sends a message; `changed()` hears that another task was chosen.
// `foot`: what stands below.
function createWelcome({begin, changed, foot}) {
  const radios = TASK_NAMES.map(name => make('button', {type: 'button', class: 'task-choice', role: 'radio', 'data-task': name, on: {click: () => choose(name)}}, words.tasks[name].name));
  const group = make('div', {class: 'tasks', role: 'radiogroup', 'aria-label': words.task, on: {keydown: onKey}}, ...radios);
  const examples = make('div', {class: 'examples'});
  const detail = make('p', {});
  const node = make('section', {class: 'welcome', hidden: true}, make('h2', {}, words.welcome), detail, group, examples, ...foot);
  let task = null;

  function onKey(event) {
    const step = {ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1}[event.key], at = TASK_NAMES.indexOf(task);
    if (!step) return;
    event.preventDefault();
    choose(TASK_NAMES[(at + step + TASK_NAMES.length) % TASK_NAMES.length]);
    radios[TASK_NAMES.indexOf(task)].focus();
  }

  function choose(name) {
    tabStore.set('task', name);
    if (name === task) return;
    task = name;
    radios.forEach((radio, i) => {
      radio.setAttribute('aria-checked', TASK_NAMES[i] === task);
      radio.tabIndex = TASK_NAMES[i] === task ? 0 : -1;
    });
    examples.replaceChildren(...words.tasks[task].examples.map(text => make('button', {type: 'button', class: 'example', on: {click: () => begin(text)}}, text)));
    changed();
  }

  // A reload in the middle of a first message keeps its task; the server checks it anyway.
  function begins() {
    const kept = tabStore.get('task');
    choose(TASK_NAMES.includes(kept) ? kept : TASK_NAMES[0]);
  }

  // Whether what this person rates trains; null: they have not said so yet.
  function setContributes(contributes) {
    setText(detail, contributes === null ? words.welcome_unasked : contributes ? words.welcome_detail : words.welcome_private);
  }

  return {node, begins, task: () => task, reset: () => choose(TASK_NAMES[0]), setContributes};
}
