// Requests, which are tried again while the feeds are away, and the stream of what happens.
import { $, toast } from "./dom.js";

const PATIENCE = 60_000, PAUSE = 1_000;
const sleep = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
let streamOpen = false, failing = 0, stream = null;

function showState() {
  const state = failing > 0 ? "away" : streamOpen ? "live" : "wait";
  if ($("#state").dataset.state === state) return;
  $("#state").dataset.state = state;
  $("#state").textContent = { live: "Live", wait: "Connecting…", away: "Feeds are away. Trying again…" }[state];
}

// Whatever is asked for here may be asked for twice: a new post has a key of its own.
export async function ask(method, path, body) {
  const until = Date.now() + PATIENCE;
  let failed = false;
  try {
    for (;;) {
      const answer = await fetch("/api" + path, {
        method,
        body: body && JSON.stringify(body),
        headers: body ? { "Content-Type": "application/json" } : {},
      }).catch(() => null);
      if (answer?.ok) return await answer.json();
      if (answer && answer.status !== 503) {
        const problem = await answer.json().catch(() => ({}));
        throw new Error(problem.detail ?? `That did not work (${answer.status})`);
      }
      if (Date.now() > until) throw new Error("The feeds cannot be reached");
      if (!failed) failing += 1;
      failed = true;
      showState();
      await sleep(PAUSE);
    }
  } finally {
    if (failed) failing -= 1;
    showState();
  }
}

// Of several answers to the same question only that to the last one counts, whichever comes first: *use* is called with that alone.
export function latest() {
  let turn = 0;
  return async (question, use) => {
    const mine = ++turn, found = await question;
    if (mine === turn) await use(found);
  };
}

// What a button or form does: one at a time, and what goes wrong is said.
export function attempt(action) {
  return async (event) => {
    event?.preventDefault?.();
    try {
      await action(event);
    } catch (error) {
      toast(error.message);
    }
  };
}

// Listen from what is shown now: *after* has the texts that stand for it, *told* a function for each name of an event.
export function listen(after, told) {
  stream?.close();
  const opened = (stream = new EventSource("/api/live?" + new URLSearchParams(after)));
  opened.onopen = () => { streamOpen = true; showState(); };
  opened.onerror = () => {
    streamOpen = false;
    showState();
    if (opened.readyState === EventSource.CLOSED) sleep(2 * PAUSE).then(() => stream === opened && listen(after, told));
  };
  for (const [name, tell] of Object.entries(told)) {
    opened.addEventListener(name, (event) => stream === opened && tell(JSON.parse(event.data)));
  }
}
