// The live page. Each part has a module of its own; here is who looks at it, what it hears, and how it looks.
import { $, $$, avatar, el } from "./dom.js";
import { ask, attempt, listen } from "./net.js";
import * as feed from "./feed.js";
import * as notifications from "./notifications.js";
import * as panel from "./panel.js";
import * as side from "./side.js";

async function begin(state) {
  $("#account").replaceChildren(avatar(state.me), el("span", {}, state.me.name.split(" ")[0]));
  $("#account").setAttribute("aria-label", `${state.me.name}: be somebody else`);
  $("#accounts .people").replaceChildren(...state.people.map((person) => el("li", {}, el("button", {
    class: "person",
    "aria-current": person.id === state.me.id ? "true" : null,
    click: attempt(async () => be(await ask("POST", "/login", { person: person.id }))),
  }, avatar(person), el("span", {}, el("strong", {}, person.name), el("span", { class: "soft" }, person.bio))))));
  notifications.open(state.me);
  panel.open(state.people);
  let ready = false;
  const hear = () => ready && listen({ home: feed.shown, network: side.shown }, {
    badge: notifications.showCounts,
    home: (change) => feed.showNew(change.new),
    network: (change) => side.showNew(change.new),
  });
  await Promise.all([feed.open(state.me, hear), side.open(state, hear)]);
  ready = true;
  hear();
}

async function be(state) {
  if ($("#accounts").matches(":popover-open")) $("#accounts").hidePopover();
  show("feed");
  await begin(state);
  scrollTo(0, 0);
}

$("#join").addEventListener("submit", attempt(async (event) => {
  const form = event.target, state = await ask("POST", "/join", { name: form.elements.name.value });
  form.reset();
  await be(state);
}));

// -- on a telephone one part at a time

function show(view) {
  document.body.dataset.view = view;
  for (const each of $$("#views button")) {
    if (each.dataset.show === view) each.setAttribute("aria-current", "true");
    else each.removeAttribute("aria-current");
  }
  scrollTo(0, 0);
}

$("#views").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) show(button.dataset.show);
});

// -- light and dark

const dark = matchMedia("(prefers-color-scheme: dark)");

function dress() {
  const chosen = localStorage.getItem("theme");
  if (chosen) document.documentElement.dataset.theme = chosen;
  $("#theme").setAttribute("aria-pressed", String(chosen ? chosen === "dark" : dark.matches));
}

$("#theme").addEventListener("click", () => {
  localStorage.setItem("theme", $("#theme").getAttribute("aria-pressed") === "true" ? "light" : "dark");
  dress();
});
dark.addEventListener("change", dress);
dress();

for (const [popover, button] of [["#notifications", "#open-notifications"], ["#accounts", "#account"]]) {
  $(button).setAttribute("aria-expanded", "false");
  $(popover).addEventListener("toggle", (event) => $(button).setAttribute("aria-expanded", String(event.newState === "open")));
}

attempt(async () => begin(await ask("GET", "/me")))();
