// Making elements. Texts of people become text nodes and never HTML: nothing here parses HTML, and the page's policy forbids it.

export const $ = (selector, within = document) => within.querySelector(selector);
export const $$ = (selector, within = document) => [...within.querySelectorAll(selector)];

export function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === "function") made.addEventListener(name, value);
    else if (value !== false && value != null) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.flat().filter((child) => child != null));
  return made;
}

export function svg(tag, attributes = {}, ...children) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  made.append(...children);
  return made;
}

export const icon = (name) => svg("svg", { "aria-hidden": "true" }, svg("use", { href: `#i-${name}` }));

const HUES = [6, 22, 140, 165, 186, 204, 222, 244, 266, 288, 312, 338];

export function avatar(person) {
  const sum = [...person.id + person.name].reduce((sum, letter) => Math.imul(sum ^ letter.codePointAt(0), 16777619) >>> 0, 2166136261);
  const words = person.name.trim().split(/\s+/), ends = words.length > 1 ? [words[0], words.at(-1)] : words;
  const made = el("span", { class: "avatar", "aria-hidden": "true" }, ends.map((word) => [...word][0]).join("").toUpperCase());
  made.style.setProperty("--hue", HUES[(sum >>> 9) % HUES.length]);
  return made;
}

export const count = (number, one, many = one + "s") => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

// "Ada, Ben and 3 others", the names in bold.
export function names(people, total, me) {
  const told = people.slice(0, total > 2 ? 2 : total).map((person) => el("strong", {}, person.id === me ? "You" : person.name));
  const others = total - told.length;
  if (others > 0) told.push(el("strong", {}, count(others, "other")));
  return told.flatMap((part, index) => (index === 0 ? [part] : [index === told.length - 1 ? " and " : ", ", part]));
}

const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60]];
const words = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });

function ago(time) {
  const seconds = (Date.now() - new Date(time)) / 1000;
  const [unit, size] = UNITS.find(([, size]) => seconds >= size) ?? [];
  return unit ? words.format(-Math.floor(seconds / size), unit) : "just now";
}

export const when = (time) => el("time", { datetime: time, title: new Date(time).toLocaleString("en-GB") }, ago(time));

setInterval(() => $$("time").forEach((each) => (each.textContent = ago(each.dateTime))), 20_000);

// *where* is drawn anew: what had the focus in it, or its successor in the same place, has it again.
export function keepFocus(where, redraw) {
  const reachable = () => $$("button, input, a", where);
  const index = where.contains(document.activeElement) ? reachable().indexOf(document.activeElement) : -1;
  redraw();
  if (index >= 0) (reachable()[index] ?? reachable().at(-1) ?? where).focus();
}

export const empty = (where, title, text) => {
  where.replaceChildren(icon("logo"), el("strong", {}, title), el("p", {}, text));
  return where;
};

export function announce(text) {
  $("#announcer").textContent = text;
}

// A message for some seconds; for longer if something can be done about it, such as to undo it.
export function toast(text, label, action) {
  const close = () => made.remove();
  const button = label && el("button", { class: "link", click: () => { close(); action(); } }, label);
  const made = el("p", {}, el("span", {}, text), button);
  $("#toasts div").replaceChildren(made);
  setTimeout(close, action ? 30_000 : 6_000);
}
