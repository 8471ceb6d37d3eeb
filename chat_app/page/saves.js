// Saves of one thing that a person says: what is shown changes at once, the saves run one after the other in the order of
// the clicks, and what the server last confirmed decides in the end.

function createSaves(call) {
  let waiting = 0, changedAt = 0, queue = Promise.resolve();

  return {
    // `settle(answer, isLast)` hears what came of it; `isLast`: no later one is still on its way.
    save(payload, settle) {
      waiting += 1;
      changedAt = Date.now();
      queue = queue.then(() => ask(call, payload)).then(answer => {
        waiting -= 1;
        changedAt = Date.now();
        settle(answer, waiting === 0);
      });
    },
    // Whether what the server knew as of `askedAt` is news; older than our own last change, it is not.
    isNews: (askedAt = Infinity) => waiting === 0 && askedAt > changedAt,
  };
}

// What a note says of a save that is over: `text`, or why it failed.
function noteSaved(note, answer, text) {
  note.classList.toggle('problem', !answer.ok);
  setText(note, answer.ok ? text : say('not_saved', {why: problem(answer)}));
}
