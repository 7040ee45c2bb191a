// Notifications: the button with the badge, and the list behind it, of all or of what is unread.
import { $, $$, announce, count, el, empty, keepFocus } from "./dom.js";
import { ask, attempt, latest } from "./net.js";
import { stack } from "./stacks.js";

const notifications = $("#notifications"), list = $("ol", notifications), more = $(".more", notifications);
let me = null, next = null, revision = null, unreadOnly = false, paged = false, last = null;
const lastAsked = latest();
const isOpen = () => notifications.matches(":popover-open");

export function open(person) {
  me = person;
  last = null;
  if (isOpen()) notifications.hidePopover();
}

// Counts come with events and with answers; those with a lower number are older.
export function showCounts({ unseen, unread, seq }) {
  if (last && seq < last.seq) return;
  $("#badge").textContent = unseen > 99 ? "99+" : unseen;
  $("#badge").hidden = unseen === 0;
  $("#open-notifications").setAttribute("aria-label", unseen ? `Notifications, ${unseen} new` : "Notifications");
  $("#unread").textContent = unread || "";
  $("#mark-all").disabled = unread === 0;
  document.title = (unseen ? `(${unseen}) ` : "") + "Millpond";
  if (last && unseen > last.unseen) announce(count(unseen, "new notification"));
  if (last && isOpen() && seq !== last.seq) {
    if (paged) $("#notifications-new").hidden = unseen <= last.unseen;
    else if (unseen) attempt(() => load())();
  }
  last = { unseen, unread, seq };
}

function load(cursor) {
  const query = new URLSearchParams({ ...(cursor && { cursor }), ...(unreadOnly && { unread: "" }) });
  return lastAsked(ask("GET", `/notifications?${query}`), async (page) => {
    const drawn = page.items.map(item);
    paged = Boolean(cursor);
    next = page.next;
    if (cursor) list.append(...drawn);
    else {
      keepFocus(list, () => list.replaceChildren(...drawn));
      revision = page.revision; // of the first page: what came while reading is not marked
      $("#notifications-new").hidden = true;
    }
    more.hidden = !next;
    const [title, text] = unreadOnly ? ["All read", "You have seen to everything."] : ["Nothing yet", "Likes of your posts and new followers come here."];
    empty($(".empty", notifications), title, text).hidden = list.hasChildNodes();
    if (!cursor) await mark({ seen: true, until: revision });
  });
}

async function mark(what) {
  showCounts(await ask("POST", "/notifications/mark", { seen: null, read: null, ...what }));
}

function item(found) {
  const dot = el("button", {
    class: "dot",
    "aria-label": found.is_read ? "Mark as unread" : "Mark as read",
    title: found.is_read ? "Mark as unread" : "Mark as read",
    click: attempt(async () => {
      const { group, revision } = found;
      await mark({ groups: [{ group, revision }], seen: true, read: !found.is_read });
      const marked = item({ ...found, is_read: !found.is_read });
      made.replaceWith(marked);
      $(".dot", marked).focus();
    }),
  });
  const made = stack("notifications", found, me.id, dot);
  return made;
}

function choose(tab, focus) {
  unreadOnly = tab.id === "tab-unread";
  for (const each of $$("[role=tab]", notifications)) {
    each.setAttribute("aria-selected", String(each === tab));
    each.tabIndex = each === tab ? 0 : -1;
  }
  $("#notifications-list").setAttribute("aria-labelledby", tab.id);
  if (focus) tab.focus();
  return load();
}

for (const tab of $$("[role=tab]", notifications)) tab.addEventListener("click", attempt(() => choose(tab)));
$("[role=tablist]", notifications).addEventListener("keydown", (event) => {
  const tabs = $$("[role=tab]", notifications), at = tabs.indexOf(document.activeElement);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: -1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  attempt(() => choose(tabs.at(to % tabs.length), true))();
});
notifications.addEventListener("toggle", attempt(async (event) => {
  if (event.newState !== "open") return;
  $("#notifications-title").focus();
  list.replaceChildren();
  await choose($("#tab-all"));
}));
more.addEventListener("click", attempt(() => load(next)));
$("#notifications-new").addEventListener("click", attempt(() => load()));
$("#mark-all").addEventListener("click", attempt(async () => {
  await mark({ seen: true, read: true, until: revision });
  await load();
}));
