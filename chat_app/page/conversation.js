// The turns of one conversation: a message and the replies it got, of which one is shown, or two that are compared.
// Nodes are kept by id, so focus, selection and scroll position survive every update.

function createConversation(actions) {
  const log = make('div', {class: 'log', role: 'log', 'aria-live': 'off'});
  const turnNodes = new Map(), replyParts = new Map();
  const chosen = new Map(), comparisons = new Map();            // by turn: the id of the reply to show; what is compared
  let turns = [], said = [], liveVersion = null, busy = false;             // `said`: all comparisons the server knows of

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

  // The attempts one can page through. What the app wrote aside is one of them once it was itself compared.
  function attempts(turn) {
    return turn.replies.filter(reply => !reply.aside || reply.id === turn.answer || isCompared(turn.id, reply.id));
  }

  function isCompared(turnId, replyId) {
    const comparison = comparisons.get(turnId);
    return (comparison?.isJudged() && comparison.holds(replyId)) || said.some(each => each.replies.includes(replyId));
  }

  function shownReply(turn) {
    const seen = attempts(turn), id = chosen.get(turn.id) ?? turn.answer;
    return seen.find(reply => reply.id === id) || seen.at(-1);
  }

  // The comparison that is open in this turn, with its two replies.
  function openIn(turn) {
    const comparison = comparisons.get(turn.id), pair = turn.replies.filter(reply => comparison?.holds(reply.id));
    return comparison?.isOpen() && pair.length === 2 ? {comparison, pair} : null;
  }

  function showReplies(turn) {
    const seen = attempts(turn), open = openIn(turn), isLast = turn === turns.at(-1);
    for (const reply of open ? open.pair : [shownReply(turn)]) {
      const parts = partsOf(reply, turn), comparison = comparisons.get(turn.id);
      parts.show(reply, {index: seen.indexOf(reply), of: seen.length}, isLast, busy);
      parts.showLine(!open && comparison?.holds(reply.id) && (comparison.isJudged() || (isLast && !busy)) ? comparison.lineUnder(reply.id) : null);
    }
    open?.comparison.fill(id => replyParts.get(id).node, open.pair.every(reply => reply.state === 'done'));
  }

  function compare(turnId, ids, askedBy) {
    if (!ids.every(id => comparisons.get(turnId)?.holds(id))) comparisons.set(turnId, createComparison(turnId, ids, askedBy, {moved: render, judged: better => judged(turnId, better)}));
    return comparisons.get(turnId);
  }

  // The better one is shown and gone on from, unless the conversation has gone on already.
  function judged(turnId, better) {
    const last = turns.at(-1);
    if (turnId === last?.id && better === null) { chosen.delete(turnId); last.answer = null; }
    if (turnId === last?.id && better && better !== 'same') chosen.set(turnId, better);
    render();
  }

  function page(turnId, step) {
    const turn = turns.find(each => each.id === turnId), seen = attempts(turn), next = seen[seen.indexOf(shownReply(turn)) + step];
    chosen.set(turnId, next.id);
    render();
    // The pressed button went away with its reply; its counterpart takes the focus.
    const tools = replyParts.get(next.id).node.querySelectorAll('.attempts button:enabled');
    (step > 0 ? tools[tools.length - 1] : tools[0])?.focus();
  }

  function divider(key, text) {
    return make('p', {class: 'divider', 'data-divider': key}, make('span', {}, text));
  }

  function render() {
    const nodes = [];
    let previous = null;
    for (const turn of turns) {
      const reply = shownReply(turn), node = turnNode(turn), open = openIn(turn);
      if (reply) {
        if (previous !== null && previous !== reply.version) nodes.push(kept(`from-${turn.id}-${reply.version}`, say('from_here', {version: versionName(reply.version)})));
        previous = reply.version;
        showReplies(turn);
        arrange(node, [node.firstChild, open ? open.comparison.node : partsOf(reply, turn).node]);
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
    // Shows these turns instead of all before, as the server knew them `askedAt`.
    replace(newTurns, askedAt) {
      const ids = new Set(newTurns.map(turn => turn.id));
      for (const id of [...turnNodes.keys()]) if (!ids.has(id)) turnNodes.delete(id);
      turns = newTurns;
      const replyIds = this.replyIds();
      for (const id of [...replyParts.keys()]) if (!replyIds.includes(id)) replyParts.delete(id);
      for (const id of [...comparisons.keys()]) if (!ids.has(id)) comparisons.delete(id);
      for (const turn of turns) {
        for (const reply of turn.replies) if (reply.rating) partsOf(reply, turn).rating.take(reply.rating, askedAt);
        const left = openComparison(turn.id), aside = turn.replies.find(reply => reply.aside);
        if (left) compare(turn.id, left.ids, left.askedBy);
        else if (aside && !comparisons.has(turn.id)) compare(turn.id, [turn.replies[0].id, aside.id], 'app');
      }
      render();
    },
    // Adds a turn, or replaces the one with its id; its newest reply is the one to show, `beside` another one to compare it with.
    put(turn, beside) {
      const at = turns.findIndex(each => each.id === turn.id);
      if (at < 0) turns.push(turn); else turns[at] = turn;
      chosen.delete(turn.id);
      for (const comparison of comparisons.values()) if (comparison.isOpen()) comparison.close();
      if (beside) compare(turn.id, [beside, turn.replies.at(-1).id], 'person').open();
      render();
    },
    // A newer state of one reply. False when there is no such reply here.
    update(reply) {
      const turn = turns.find(each => each.replies.some(old => old.id === reply.id));
      if (!turn) return false;
      const i = turn.replies.findIndex(old => old.id === reply.id), before = turn.replies[i];
      if (before.state !== 'streaming' && reply.state === 'streaming') return true;      // a late part of a finished reply
      turn.replies[i] = {...before, ...reply};
      if (reply.state === 'streaming') showReplies(turn); else render();
      return true;
    },
    takeRatings(ratings, askedAt) {
      for (const [id, parts] of replyParts) parts.rating.take(ratings[id], askedAt);
    },
    // What hangs on replies beside their ratings, as of `askedAt`.
    takeMarks(marks, askedAt) {
      if (!marks) return;
      for (const [id, parts] of replyParts) parts.takeMarks({outcome: marks.outcomes[id], reasons: marks.reasons[id], correction: marks.corrections[id]}, askedAt);
      said = marks.comparisons;
      const newest = new Map(said.map(each => [each.turn, each]));
      for (const each of newest.values()) if (!comparisons.get(each.turn)?.isOpen()) compare(each.turn, each.replies, each.asked_by);
      for (const comparison of comparisons.values()) comparison.take(said.find(each => each.replies.every(comparison.holds)), askedAt);
      render();
    },
    setLive(version) {
      if (liveVersion === version) return;
      liveVersion = version;
      for (const parts of replyParts.values()) parts.refresh();
      render();
    },
    setBusy(isBusy) {
      if (busy !== isBusy) { busy = isBusy; render(); }
    },
    replyIds: () => turns.flatMap(turn => turn.replies.map(reply => reply.id)),
    // The reply to the last message that is shown: what the next message answers to.
    lastShown: () => turns.length ? shownReply(turns.at(-1))?.id : undefined,
    writing: () => turns.flatMap(turn => turn.replies).find(reply => reply.state === 'streaming') || null,
    isEmpty: () => turns.length === 0,
  };
}
