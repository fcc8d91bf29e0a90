// A page that can no longer renew a part of itself says so: an old list must not pass for a new one.
"use strict";

const trouble = document.getElementById("trouble");

function unreachable() {
  const line = document.createElement("p");
  line.className = "notice bad";
  line.textContent = "The box does not answer. What is shown below may be out of date.";
  trouble.replaceChildren(line);
}

for (const event of ["htmx:sendError", "htmx:timeout"]) document.addEventListener(event, unreachable);
document.addEventListener("htmx:afterRequest", (event) => {
  if (event.detail.successful) trouble.replaceChildren();
});
