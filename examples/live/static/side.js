// What stands beside the feed: stacks of what people in your network did, and people to follow.
import { $, avatar, count, el, empty, keepFocus, toast } from "./dom.js";
import { ask, attempt, latest } from "./net.js";
import { forget } from "./feed.js";
import { isHeld, stack } from "./stacks.js";

const network = $("#network");
const lastAsked = latest();
let me = null, changed = () => {}, due = null;
export let shown = "";

export async function open(state, told) {
  [me, changed] = [state.me, told];
  showPeople(state);
  await loadNetwork();
}

function loadNetwork() {
  return lastAsked(ask("GET", "/network"), (page) => {
    shown = page.shown;
    $("#network-new").hidden = true;
    $("ol", network).replaceChildren(...page.items.map((item) => stack("network", item, me.id)));
    empty($(".empty", network), "Quiet", "What the people you follow like, and whom they follow.").hidden = page.items.length > 0;
    changed();
  });
}

// It is drawn anew by itself, unless somebody is reading it; and not at each like while there are many.
export function showNew(number) {
  if (!number || due) return;
  due = setTimeout(attempt(async () => {
    due = null;
    if (isHeld($("ol", network))) $("#network-new").hidden = false;
    else await loadNetwork();
  }), 1500);
}

function showPeople(state) {
  $("#profile").replaceChildren(avatar(me), el("div", {}, el("strong", {}, me.name), el("p", { class: "soft" }, me.bio),
    el("p", { class: "soft" }, el("strong", {}, state.followers.toLocaleString("en")), " followers, ", el("strong", {}, String(state.following)), " followed")));
  const others = state.people.filter((person) => person.id !== me.id);
  $("#who-else .people").replaceChildren(...others.map((person) => el("li", {}, avatar(person),
    el("div", { class: "grow" }, el("strong", {}, person.name), el("p", { class: "soft" }, person.bio)),
    el("button", {
      class: person.followed ? "small" : "small primary",
      "aria-label": (person.followed ? "Unfollow " : "Follow ") + person.name,
      click: attempt(() => follow(person, !person.followed)),
    }, person.followed ? "Following" : "Follow"))));
}

async function follow(person, wanted) {
  const state = await ask(wanted ? "PUT" : "DELETE", `/people/${person.id}/follow`);
  keepFocus($("#who-else .people"), () => showPeople(state));
  if (!wanted) forget(person);
  toast(wanted ? `You follow ${person.name}.` : `You no longer follow ${person.name}.`, "Undo", attempt(() => follow(person, !wanted)));
}

$("#network-new").addEventListener("click", attempt(loadNetwork));
