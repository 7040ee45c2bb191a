// Groups of what people did: "Ada, Ben and 3 others liked your post", and who these are.
import { $, avatar, count, el, names, when } from "./dom.js";
import { ask, attempt } from "./net.js";

function sentence(item, me) {
  const you = (person) => (person.id === me ? "you" : el("strong", {}, person.name));
  const who = names(item.people, item.actor_count, me);
  if (item.person) return [...who, item.person.id === me && item.actor_count === 1 ? " now follows " : item.person.id === me ? " now follow " : " followed ", you(item.person)];
  return [...who, " liked ", item.post.author.id === me ? "your post" : [el("strong", {}, item.post.author.name), "’s post"]].flat();
}

// One group of *feed* as a list item; *extra* is what else stands beside it.
export function stack(feed, item, me, ...extra) {
  const list = el("ul", { class: "people who" });
  const more = el("button", { class: "link", hidden: true }, "Show more");
  const behind = el("div", { hidden: true }, list, more);
  const show = attempt(async (cursor) => {
    const query = new URLSearchParams({ group: item.group, ...(typeof cursor === "string" && { cursor }) });
    const page = await ask("GET", `/${feed}/who?${query}`);
    list.append(...page.people.map((person) => el("li", {}, avatar(person), el("span", {}, person.name))));
    more.hidden = !page.next;
    more.onclick = () => show(page.next);
  });
  const who = item.actor_count > 1 && el("button", {
    class: "link",
    "aria-expanded": "false",
    "aria-label": `Who? All ${count(item.actor_count, "person", "people")}`,
    click: async () => {
      behind.hidden = !behind.hidden;
      who.setAttribute("aria-expanded", String(!behind.hidden));
      list.replaceChildren();
      if (!behind.hidden) await show();
    },
  }, "who?");
  return el("li", { class: item.is_read === false ? "stack unread" : "stack" },
    el("div", { class: "faces" }, item.people.map(avatar)),
    el("p", {}, sentence(item, me), who ? [" ", who] : null),
    item.post ? el("p", { class: "quote" }, item.post.text) : null,
    when(item.updated_at),
    behind,
    extra);
}

export const isHeld = (where) => where.contains(document.activeElement) || Boolean($("[aria-expanded=true]", where));
