// Lines that change under a pressed mouse button or finger would lose the click: new ones wait for the next poll.
"use strict";

document.addEventListener("htmx:beforeSwap", (event) => {
  const rows = document.getElementById("rows");
  if (event.detail.requestConfig.elt === rows && rows.matches(":active")) event.detail.shouldSwap = false;
});
