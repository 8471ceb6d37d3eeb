// The turns of one conversation: a message and the replies it got, of which one is shown. Nodes are kept by id, so
// focus, selection and scroll position survive every update.

function createConversation(actions) {
  const log = make('div', {class: 'log', role: 'log', 'aria-live': 'off'});
  let turns = [], turnNodes = new Map(), replyParts = new Map(), chosen = new Map(), liveVersion = null, busy = false;

  function partsOf(reply, turn) {
    if (!replyParts.has(reply.id)) {
      const parts = createReply(reply.id, {...actions, page: step => page(turn.id, step)});
      parts.rating.take(reply.rating);
      replyParts.set(reply.id, parts);
    }
    return replyParts.get(reply.id);
  }

  function turnNode(turn) {
    if (!turnNodes.has(turn.id)) {
      const message = make('article', {class: 'message', 'aria-label': words.you}, make('div', {class: 'bubble'}, turn.message));
      turnNodes.set(turn.id, make('section', {class: 'turn', 'data-turn': turn.id}, message));
    }
    return turnNodes.get(turn.id);
  }

  function shownIndex(turn) {
    return Math.min(chosen.get(turn.id) ?? Infinity, turn.replies.length - 1);
  }

  function showReply(turn) {
    const index = shownIndex(turn), reply = turn.replies[index];
    partsOf(reply, turn).show(reply, {index, of: turn.replies.length}, turn === turns.at(-1), busy);
  }

  function page(turnId, step) {
    const turn = turns.find(each => each.id === turnId);
    chosen.set(turnId, shownIndex(turn) + step);
    render();
    // The pressed button went away with its reply; its counterpart takes the focus.
    const tools = replyParts.get(turn.replies[shownIndex(turn)].id).node.querySelectorAll('.attempts button:enabled');
    (step > 0 ? tools[tools.length - 1] : tools[0])?.focus();
  }

  function divider(key, text) {
    return make('p', {class: 'divider', 'data-divider': key}, make('span', {}, text));
  }

  function render() {
    const nodes = [];
    let previous = null;
    for (const turn of turns) {
      const reply = turn.replies[shownIndex(turn)], node = turnNode(turn);
      if (reply) {
        if (previous !== null && previous !== reply.version) nodes.push(kept(`from-${turn.id}-${reply.version}`, say('from_here', {version: versionName(reply.version)})));
        previous = reply.version;
        showReply(turn);
        arrange(node, [node.firstChild, partsOf(reply, turn).node]);
      }
      nodes.push(node);
    }
    if (previous !== null && liveVersion !== null && liveVersion !== previous && !busy)
      nodes.push(kept(`live-${liveVersion}`, `${say('now_live', {version: versionName(liveVersion)})} · ${words.live_detail}`));
    arrange(log, nodes);
  }

  function kept(key, text) {
    return [...log.children].find(child => child.dataset.divider === key) || divider(key, text);
  }

  return {
    log,
    // Shows these turns instead of all before.
    replace(newTurns) {
      const ids = new Set(newTurns.map(turn => turn.id));
      for (const id of [...turnNodes.keys()]) if (!ids.has(id)) turnNodes.delete(id);
      turns = newTurns;
      const replyIds = this.replyIds();
      for (const id of [...replyParts.keys()]) if (!replyIds.includes(id)) replyParts.delete(id);
      for (const turn of turns) for (const reply of turn.replies) if (reply.rating) partsOf(reply, turn).rating.take(reply.rating);
      render();
    },
    // Adds a turn, or replaces the one with its id; its newest reply is the one to show.
    put(turn) {
      const at = turns.findIndex(each => each.id === turn.id);
      if (at < 0) turns.push(turn); else turns[at] = turn;
      chosen.delete(turn.id);
      render();
    },
    // A newer state of one reply. False when there is no such reply here.
    update(reply) {
      const turn = turns.find(each => each.replies.some(old => old.id === reply.id));
      if (!turn) return false;
      const i = turn.replies.findIndex(old => old.id === reply.id), before = turn.replies[i];
      if (before.state !== 'streaming' && reply.state === 'streaming') return true;      // a late part of a finished reply
      turn.replies[i] = {...before, ...reply};
      if (reply.state === 'streaming') showReply(turn); else render();
      return true;
    },
    takeRatings(ratings, askedAt) {
      for (const [id, parts] of replyParts) parts.rating.take(ratings[id], askedAt);
    },
    // What hangs on replies beside their ratings, as of `askedAt`.
    takeMarks(marks, askedAt) {
      if (marks) for (const [id, parts] of replyParts) parts.takeMarks({outcome: marks.outcomes[id], reasons: marks.reasons[id], correction: marks.corrections[id]}, askedAt);
    },
    setLive(version) {
      if (liveVersion !== version) { liveVersion = version; render(); }
    },
    setBusy(isBusy) {
      if (busy !== isBusy) { busy = isBusy; render(); }
    },
    replyIds: () => turns.flatMap(turn => turn.replies.map(reply => reply.id)),
    writing: () => turns.flatMap(turn => turn.replies).find(reply => reply.state === 'streaming') || null,
    isEmpty: () => turns.length === 0,
  };
}
