// The page kept in step with the server: parts of the reply that is being written, and a look every few seconds.

const LOOK_EVERY = 3000;              // ms between looks at the server
const SILENCE = 6000;                 // ms without a part after which a stream counts as lost (the server beats every 2 s)
const PATIENCE = 30_000;              // ms after which a look that was not answered keeps no other one back

// `shown()`: the id of the conversation that is open, or null. `looked` hears every answer, also one that failed;
// `grew` every part of a reply; `outdated` that what is shown must be fetched anew.
function createLookout({conversation, shown, isOpened, openAgain, looked, grew, outdated}) {
  let lastPart = 0, pending = null;     // `pending`: since when a look waits for its answer

  window.addEventListener('reply-part', event => takePart(event.detail));
  setInterval(() => { if (!document.hidden) look(); }, LOOK_EVERY);
  document.addEventListener('visibilitychange', () => { if (!document.hidden) look(); });

  // Streams the reply that is being written. It is written on the server whether or not we listen.
  function follow() {
    lastPart = Date.now();
    trigger('follow', {conversation: shown(), reply: conversation.writing().id});
  }

  function takePart(part) {
    if (!part || part.conversation !== shown()) return;
    lastPart = Date.now();
    grew(part.reply);
  }

  async function look() {
    if (!isOpened()) return openAgain();
    const askedAt = Date.now(), about = shown();
    if (askedAt - pending < PATIENCE) return;             // a server that is slow has enough to do
    pending = askedAt;
    const answer = await ask('ui_look', about ? {conversation: about} : {});
    if (pending === askedAt) pending = null;
    if (about !== shown()) return;
    looked(answer, about, askedAt);
    if (!answer.ok || !about) return;
    const writing = conversation.writing(), known = conversation.replyIds();
    const stale = answer.replies.some(id => !known.includes(id)) || (writing && !answer.running && Date.now() - lastPart > LOOK_EVERY);
    if (stale && askedAt > lastPart) outdated(about);                       // another tab wrote here, or a stream was lost
    else if (writing && answer.running && Date.now() - lastPart > SILENCE) follow();
  }

  return {follow};
}
