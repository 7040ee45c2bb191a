// The home feed: posting, liking, older posts, and how many are new.
import { $, announce, avatar, count, el, empty, icon, keepFocus, toast, when } from "./dom.js";
import { ask, attempt, latest } from "./net.js";

const lastAsked = latest();
let me = null, next = null, changed = () => {};
export let shown = "";

export async function open(person, told) {
  [me, changed] = [person, told];
  $("#compose-avatar").replaceChildren(avatar(me));
  await load();
}

export function load(cursor) {
  return lastAsked(ask("GET", "/home" + (cursor ? "?cursor=" + encodeURIComponent(cursor) : "")), (page) => {
    const cards = page.items.map(card);
    if (cursor) $("#posts").append(...cards);
    else {
      $("#posts").replaceChildren(...cards);
      shown = page.shown;
      showNew(0);
      changed();
    }
    next = page.next;
    const none = !$("#posts").hasChildNodes(), had = document.activeElement === $("#more-posts");
    $("#more-posts").hidden = !next;
    $("#feed-end").hidden = Boolean(next) || none;
    empty($("#feed-empty"), "Nothing here yet", "Follow somebody, and what they post comes here by itself.").hidden = !none;
    if (had && !next) $("#feed-end").focus();
    if (cursor) announce(`${count(cards.length, "more post")}`);
  });
}

// What came since does not move what is being read: it waits behind a button.
export function showNew(number) {
  if (number && !$("#posts").hasChildNodes()) return void attempt(() => load())();
  $("#new-posts").textContent = count(number, "new post");
  $("#new-posts").hidden = number === 0;
}

function card(post) {
  const mine = post.author.id === me.id;
  const like = el("button", {
    class: "like",
    "aria-pressed": String(post.liked),
    "aria-label": `Like the post of ${post.author.name}, ${count(post.likes, "like")}`,
    click: attempt(async () => {
      like.setAttribute("aria-pressed", String(!post.liked)); // at once; the answer says what is so
      replace(await ask(post.liked ? "DELETE" : "PUT", `/posts/${post.id}/like`));
    }),
  }, icon("heart"), el("span", {}, post.likes || "Like"));
  const remove = mine && el("button", { class: "quiet", "aria-label": "Delete this post", click: attempt(() => takeBack(post)) }, icon("bin"));
  const made = el("li", { class: "card post", id: `post-${post.id}` },
    avatar(post.author),
    el("article", { class: "grow", "aria-label": `Post of ${post.author.name}` },
      el("p", { class: "by" }, el("strong", {}, post.author.name), when(post.time)),
      el("p", { class: "text" }, post.text),
      el("div", { class: "row" }, like, remove || null)));
  const replace = (post) => keepFocus(made, () => made.replaceChildren(...card(post).childNodes));
  return made;
}

async function takeBack(post) {
  await ask("DELETE", `/posts/${post.id}`);
  const card = $(`#post-${post.id}`), beside = card?.nextElementSibling ?? $("#posts");
  card?.remove();
  $("button", beside)?.focus();
  toast("The post is gone, and so are its likes.");
}

export function forget(author) { // who is no longer followed: their posts leave the feed, and the page at once
  const gone = (each) => $("strong", each).textContent === author.name;
  [...$("#posts").children].filter(gone).forEach((each) => each.remove());
  if (!$("#posts").hasChildNodes()) attempt(() => load())();
}

const text = $("#compose").elements.text;
text.addEventListener("input", () => {
  const left = text.maxLength - text.value.length;
  $("#left").textContent = left < 100 ? `${left} left` : "";
});
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) $("#compose").requestSubmit();
});
$("#compose").addEventListener("submit", attempt(async () => {
  const post = await ask("POST", "/posts", { text: text.value, key: crypto.getRandomValues(new Uint32Array(4)).join("-") });
  $("#compose").reset();
  $("#left").textContent = "";
  await load();
  toast("Posted.", "Undo", attempt(() => takeBack(post)));
}));
$("#new-posts").addEventListener("click", attempt(async () => {
  await load();
  scrollTo({ top: 0 });
  $("#posts").focus({ preventScroll: true });
}));
$("#more-posts").addEventListener("click", attempt(() => load(next)));
