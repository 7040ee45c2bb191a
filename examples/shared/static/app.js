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

// What has the focus is drawn anew by *redraw*: its successor, the same button of *where()*, gets it.
function keepFocus(where, redraw) {
  const buttons = () => [...where().querySelectorAll("button, input")];
  const index = buttons().indexOf(document.activeElement);
  redraw();
  if (index >= 0) buttons()[index]?.focus();
}

function avatar(person) {
  const hue = [...person.id].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) % 360, 0);
  const initials = person.name.split(" ").map((word) => word[0]).join("").slice(0, 2);
  return el("span", { class: "avatar", style: `background: hsl(${hue} 45% 34%)`, "aria-hidden": "true" }, initials);
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

function link(address, author) {
  if (!address || !URL.canParse(address, location.href)) return null;
  const url = new URL(address, location.href);
  if (/\.(avif|gif|jpe?g|png|svg|webp)$/i.test(url.pathname))
    return el("img", { class: "picture", src: address, alt: "Picture of " + author.name, loading: "lazy" });
  return el("a", { class: "link", href: address, rel: "noopener nofollow", target: "_blank" },
    el("strong", {}, url.hostname.replace(/^www\./, "")), el("span", { class: "small" }, url.pathname + url.search));
}

function drawPost(item) {
  const post = item.post, because = item.note ? [item.note] : [];
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
    link(post.link, post.author),
    el("div", { class: "deeds" },
      el("button", {
        "aria-pressed": String(post.liked),
        "aria-label": "Like, " + post.likes + (post.likes === 1 ? " like" : " likes"),
        onclick: attempt(async () => replace(await ask(post.liked ? "DELETE" : "PUT", `/posts/${post.id}/like`))),
      }, heart(), String(post.likes || "Like")),
      el("button", {
        "aria-expanded": "false",
        onclick: attempt(async (event) => {
          const button = event.currentTarget;
          if (comments.hasChildNodes()) comments.replaceChildren();
          else drawComments(comments, await ask("GET", `/posts/${post.id}`), replace);
          button.setAttribute("aria-expanded", String(comments.hasChildNodes()));
          comments.querySelector("input")?.focus();
        }),
      }, post.comments ? post.comments + (post.comments === 1 ? " comment" : " comments") : "Comment")),
    comments);
  const replace = (changed) => {
    const drawn = drawPost({ ...item, post: changed });
    if (comments.hasChildNodes()) {
      drawComments(drawn.querySelector(".comments"), changed, drawn.replace);
      drawn.querySelector("[aria-expanded]").setAttribute("aria-expanded", "true");
    }
    keepFocus(() => (card.isConnected ? card : drawn), () => card.replaceWith(drawn));
  };
  card.replace = replace;
  return card;
}

function heart() {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  made.setAttribute("viewBox", "0 0 24 24");
  made.setAttribute("aria-hidden", "true");
  made.innerHTML = '<path d="M12 20.5 4.2 12.9a4.9 4.9 0 0 1 7-6.9l.8.8.8-.8a4.9 4.9 0 0 1 7 6.9z"/>';
  return made;
}

function drawComments(where, post, replace) {
  const text = el("input", { name: "text", maxlength: 500, placeholder: "Say something", "aria-label": "Comment" });
  const send = attempt(async () => replace(await ask("POST", `/posts/${post.id}/comments`, { text: text.value })));
  where.replaceChildren(
    el("ol", {}, ...post.all_comments.map((each) => el("li", {}, avatar(each.person),
      el("span", {}, el("strong", {}, each.person.name), " " + each.text, el("br"), el("time", {}, ago(each.time)))))),
    el("form", { onsubmit: send }, text, el("button", { class: "primary" }, "Send")));
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
  else list.replaceChildren(...(drawn.length ? drawn : [el("li", { class: "small" }, "Nothing yet. Share something that others like.")]));
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
  $("#toggle").setAttribute("aria-label", unseen ? `Notifications, ${unseen} new` : "Notifications");
  document.title = (unseen ? `(${unseen}) ` : "") + "Orchard";
}

function showPeople({ people }) {
  drawPeople(people.filter((person) => person.id !== user.id), $("#side .people"), (person) => el("li", {}, avatar(person),
    el("span", {}, person.name),
    el("button", {
      class: person.followed ? "quiet" : "primary",
      "aria-label": (person.followed ? "Unfollow " : "Follow ") + person.name,
      onclick: attempt(async () => {
        const state = await ask(person.followed ? "DELETE" : "PUT", `/people/${person.id}/follow`);
        keepFocus(() => $("#side"), () => showPeople(state));
        if (person.followed || $("#empty").hidden === false) setTimeout(attempt(() => loadPosts()), 700); // delivered by then, as a rule
      }),
    }, person.followed ? "Unfollow" : "Follow")));
}

function openNotifications(open) {
  $("#notifications").hidden = !open;
  $("#toggle").setAttribute("aria-expanded", String(open));
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
  $("#whoami").replaceChildren(avatar(user), el("span", {}, user.name));
  $("#whoami").setAttribute("aria-label", user.name + ": be somebody else");
  openNotifications(false);
  showPeople(state);
  await loadPosts();
}

$("#compose").addEventListener("submit", attempt(async (event) => {
  const form = event.target;
  const post = await ask("POST", "/posts", { text: form.text.value, link: form.link.value });
  form.reset();
  $("#empty").hidden = true;
  $("#posts").prepend(drawPost({ post, because: [], note: "Shared with your followers" }));
}));
$("#new").addEventListener("click", attempt(() => { scrollTo(0, 0); return loadPosts(); }));
$("#more").addEventListener("click", attempt(() => loadPosts(nextPosts)));
$("#notifications .more").addEventListener("click", attempt(() => loadNotifications(nextNotifications)));
$("#toggle").addEventListener("click", attempt(async () => {
  openNotifications($("#notifications").hidden);
  if (!$("#notifications").hidden) await loadNotifications();
}));
$("#whoami").addEventListener("click", attempt(async () => {
  const state = await ask("GET", "/me");
  stream?.close();
  await begin({ ...state, me: null });
}));
document.addEventListener("click", (event) => {
  if (!event.target.closest(".alerts")) openNotifications(false);
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape" || $("#notifications").hidden) return;
  openNotifications(false);
  $("#toggle").focus();
});

attempt(async () => begin(await ask("GET", "/me")))();
