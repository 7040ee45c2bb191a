// The page of the example sites. It knows the JSON contract (examples/shared/README.md) and nothing of a framework.

const $ = (selector) => document.querySelector(selector);
let user = null, shown = "", stream = null, nextPosts = null, nextNotifications = null;

// -- asking

async function ask(method, path, body) {
  const options = { method, headers: {} };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["Content-Type"] = "application/json";
  }
  const token = document.cookie.match(/(?:^|; )csrftoken=([^;]+)/); // Django's
  if (token) options.headers["X-CSRFToken"] = token[1];
  const answer = await fetch("/api" + path, options);
  if (answer.ok) return answer.json();
  const problem = await answer.json().catch(() => ({}));
  throw new Error(problem.detail || "That did not work (" + answer.status + ")");
}

function attempt(action) {
  return async (event) => {
    event?.preventDefault();
    try {
      await action(event);
    } catch (error) {
      $("#trouble").textContent = error.message;
      $("#trouble").hidden = false;
      setTimeout(() => ($("#trouble").hidden = true), 5000);
    }
  };
}

// -- drawing; texts of people are never HTML

function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false && value !== null) made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== null));
  return made;
}

function avatar(person) {
  const hue = [...person.id].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 360, 0);
  const initials = person.name.split(" ").map((word) => word[0]).join("").slice(0, 2);
  return el("span", { class: "avatar", style: `background: hsl(${hue} 50% 42%)`, "aria-hidden": "true" }, initials);
}

function ago(time) {
  const seconds = Math.min(0, (new Date(time) - Date.now()) / 1000);
  const words = new Intl.RelativeTimeFormat("en", { numeric: "auto" });
  for (const [unit, size] of [["day", 86400], ["hour", 3600], ["minute", 60]])
    if (-seconds >= size) return words.format(Math.ceil(seconds / size), unit);
  return "just now";
}

function names(people, count = people.length) {
  const told = people.slice(0, 2).map((person) => (person.id === user.id ? "You" : person.name));
  const others = count - told.length;
  if (others > 0) told.push(others === 1 ? "1 other" : others + " others");
  return new Intl.ListFormat("en").format(told);
}

function link(address) {
  if (!address) return null;
  if (/\.(avif|gif|jpe?g|png|svg|webp)$/i.test(new URL(address).pathname))
    return el("img", { class: "picture", src: address, alt: "", loading: "lazy" });
  return el("a", { href: address, rel: "noopener nofollow", target: "_blank" }, address.replace(/^https?:\/\//, ""));
}

function drawPost(item) {
  const post = item.post, because = [];
  for (const { verb, people } of item.because) {
    const others = people.filter((person) => person.id !== post.author.id || verb !== "shared");
    if (others.length) because.push(names(others) + " " + verb + (verb === "commented" ? " on" : "") + " this");
  }
  const comments = el("div", { class: "comments" });
  const card = el("li", {},
    because.length ? el("p", { class: "because" }, because.join(" · ")) : null,
    el("div", { class: "head" }, avatar(post.author),
      el("div", {}, el("strong", {}, post.author.name), el("br"), el("time", { datetime: post.time }, ago(post.time)))),
    el("p", { class: "text" }, post.text),
    link(post.link),
    el("div", { class: "deeds" },
      el("button", {
        "aria-pressed": String(post.liked),
        onclick: attempt(async () => replace(await ask(post.liked ? "DELETE" : "PUT", `/posts/${post.id}/like`))),
      }, (post.liked ? "♥ " : "♡ ") + (post.likes || "Like")),
      el("button", {
        onclick: attempt(async () => drawComments(comments, await ask("GET", `/posts/${post.id}`), replace)),
      }, post.comments ? post.comments + (post.comments === 1 ? " comment" : " comments") : "Comment")),
    comments);
  const replace = (changed) => {
    const drawn = drawPost({ ...item, post: changed });
    if (comments.hasChildNodes()) drawComments(drawn.querySelector(".comments"), changed, drawn.replace);
    card.replaceWith(drawn);
  };
  card.replace = replace;
  return card;
}

function drawComments(where, post, replace) {
  const text = el("input", { name: "text", maxlength: 500, placeholder: "Say something", "aria-label": "Comment" });
  const send = attempt(async () => replace(await ask("POST", `/posts/${post.id}/comments`, { text: text.value })));
  where.replaceChildren(
    el("ol", {}, ...post.all_comments.map((each) => el("li", {}, avatar(each.person),
      el("span", {}, el("strong", {}, each.person.name), " " + each.text, el("br"), el("time", {}, ago(each.time)))))),
    el("form", { onsubmit: send }, text, el("button", { class: "primary" }, "Send")));
  text.focus();
}

function drawNotification(item) {
  const what = { liked: "liked your post", commented: "commented on your post", followed: "now follow you" };
  if (item.actor_count === 1) what.followed = "now follows you";
  return el("li", { class: item.is_seen ? null : "unseen" }, avatar(item.people[0]),
    el("span", {}, el("strong", {}, names(item.people, item.actor_count)), " " + (what[item.verb] || item.verb),
      item.post ? el("span", { class: "small" }, " “" + item.post.text.slice(0, 60) + "”") : null,
      el("br"), el("time", {}, ago(item.updated_at))));
}

function drawPeople(people, where, action) {
  where.replaceChildren(...people.map((person) => action(person)));
}

// -- what happens

async function loadPosts(cursor) {
  const page = await ask("GET", "/home" + (cursor ? "?cursor=" + encodeURIComponent(cursor) : ""));
  const drawn = page.items.map(drawPost);
  if (cursor) $("#posts").append(...drawn);
  else {
    $("#posts").replaceChildren(...drawn);
    $("#new").hidden = true;
    shown = page.shown;
    listen();
  }
  nextPosts = page.next;
  $("#more").hidden = !nextPosts;
  $("#empty").hidden = $("#posts").hasChildNodes();
}

async function loadNotifications(cursor) {
  const page = await ask("GET", "/notifications" + (cursor ? "?cursor=" + encodeURIComponent(cursor) : ""));
  const list = $("#notifications ol"), drawn = page.items.map(drawNotification);
  if (cursor) list.append(...drawn);
  else list.replaceChildren(...(drawn.length ? drawn : [el("li", { class: "small" }, "Nothing yet.")]));
  nextNotifications = page.next;
  $("#notifications .more").hidden = !nextNotifications;
  if (!cursor) showBadge(await ask("POST", "/notifications/seen", { revision: page.revision }));
}

function listen() { // a page of the feed is shown: how much is there now that it does not show, and how many notifications?
  stream?.close();
  stream = new EventSource("/api/live?after=" + encodeURIComponent(shown));
  stream.addEventListener("badge", (event) => showBadge(JSON.parse(event.data)));
  stream.addEventListener("home", (event) => {
    const { new: count } = JSON.parse(event.data);
    $("#new").textContent = count === 1 ? "1 new post" : count + " new posts";
    $("#new").hidden = count === 0;
  });
}

function showBadge({ unseen }) {
  $("#badge").textContent = unseen > 99 ? "99+" : unseen;
  $("#badge").hidden = unseen === 0;
  document.title = (unseen ? `(${unseen}) ` : "") + "Orchard";
}

function showPeople({ people }) {
  drawPeople(people.filter((person) => person.id !== user.id), $("#side .people"), (person) => el("li", {}, avatar(person),
    el("span", {}, person.name),
    el("button", {
      class: person.followed ? null : "primary",
      onclick: attempt(async () => {
        showPeople(await ask(person.followed ? "DELETE" : "PUT", `/people/${person.id}/follow`));
      }),
    }, person.followed ? "Unfollow" : "Follow")));
}

async function begin(state) {
  user = state.me;
  for (const id of ["feed", "side", "toggle", "whoami"]) $("#" + id).hidden = !user;
  $("#login").hidden = Boolean(user);
  if (!user) {
    drawPeople(state.people, $("#login .people"), (person) => el("li", {}, el("button", {
      onclick: attempt(async () => begin(await ask("POST", "/login", { person: person.id }))),
    }, avatar(person), person.name)));
    return;
  }
  $("#whoami").replaceChildren(user.name);
  $("#notifications").hidden = true;
  showPeople(state);
  await loadPosts();
}

$("#compose").addEventListener("submit", attempt(async (event) => {
  const form = event.target;
  const post = await ask("POST", "/posts", { text: form.text.value, link: form.link.value });
  form.reset();
  $("#empty").hidden = true;
  $("#posts").prepend(drawPost({ post, because: [] }));
}));
$("#new").addEventListener("click", attempt(() => { scrollTo({ top: 0, behavior: "smooth" }); return loadPosts(); }));
$("#more").addEventListener("click", attempt(() => loadPosts(nextPosts)));
$("#notifications .more").addEventListener("click", attempt(() => loadNotifications(nextNotifications)));
$("#toggle").addEventListener("click", attempt(async () => {
  const open = $("#notifications").hidden;
  $("#notifications").hidden = !open;
  $("#toggle").setAttribute("aria-expanded", String(open));
  if (open) await loadNotifications();
}));
$("#whoami").addEventListener("click", attempt(async () => {
  const state = await ask("GET", "/me");
  stream?.close();
  await begin({ ...state, me: null });
}));
document.addEventListener("click", (event) => {
  if (!event.target.closest(".alerts")) $("#notifications").hidden = true;
});

attempt(async () => begin(await ask("GET", "/me")))();
