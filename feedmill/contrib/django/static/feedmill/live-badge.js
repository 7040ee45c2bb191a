// Keeps each element with data-feedmill-poll up to date: by server-sent events where data-feedmill-stream names them, else
// by a request every half minute while the page is visible. After each change the element dispatches "feedmill:counts", whose
// detail has unseen, unread and seq.
(() => {
  "use strict";
  const POLL = 30000;

  function show(badge, counts) {
    const before = Number(badge.dataset.feedmillSeq || -1);
    if (counts.seq < before) return; // a late answer to an older question
    badge.dataset.feedmillSeq = counts.seq;
    badge.textContent = counts.unseen;
    badge.hidden = counts.unseen === 0;
    badge.dispatchEvent(new CustomEvent("feedmill:counts", { bubbles: true, detail: counts }));
  }

  function poll(badge) {
    const ask = async () => {
      if (document.hidden) return;
      try {
        const answer = await fetch(badge.dataset.feedmillPoll, { credentials: "same-origin" });
        if (answer.ok) show(badge, await answer.json());
        else if (answer.status === 403) clearInterval(timer); // logged out
      } catch {
        // the server is away; the next question may reach it
      }
    };
    const timer = setInterval(ask, POLL);
    document.addEventListener("visibilitychange", ask);
    ask();
  }

  function listen(badge) {
    const source = new EventSource(badge.dataset.feedmillStream);
    source.addEventListener("counts", (event) => show(badge, JSON.parse(event.data)));
    source.addEventListener("error", () => {
      if (source.readyState === EventSource.CLOSED) poll(badge); // the server has no events for us; else it reconnects
    });
    addEventListener("pagehide", () => source.close());
  }

  function start() {
    for (const badge of document.querySelectorAll("[data-feedmill-poll]:not([data-feedmill-live])")) {
      badge.dataset.feedmillLive = "";
      (badge.dataset.feedmillStream ? listen : poll)(badge);
    }
  }

  if (document.readyState === "loading") addEventListener("DOMContentLoaded", start);
  else start();
})();
