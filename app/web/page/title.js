// The tab's title: progress first, so that it is readable from another tab.

/** @type {Map<string, string>} */
const activities = new Map();
let subject = "";

/** @param {string} text what the page shows */
export function setSubject(text) {
  subject = text;
  show();
}

/** @param {string} name @param {string} text what is under way; "": nothing any more */
export function setActivity(name, text) {
  if (text) activities.set(name, text);
  else activities.delete(name);
  show();
}

function show() {
  const title = [...activities.values(), subject].filter(Boolean).join(" · ");
  if (document.title !== title) document.title = title;
}
