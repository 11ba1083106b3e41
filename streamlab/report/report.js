"use strict";
(() => {
  const tip = document.getElementById("tip");
  const show = (element, x, y) => {
    tip.textContent = element.dataset.words;
    tip.hidden = false;
    const left = Math.min(x + 12, document.documentElement.clientWidth - tip.offsetWidth - 8);
    tip.style.left = `${Math.max(4, left) + window.scrollX}px`;
    tip.style.top = `${y + 16 + window.scrollY}px`;
  };
  const hide = () => { tip.hidden = true; };
  for (const element of document.querySelectorAll(".says")) {
    const title = element.querySelector("title");
    element.dataset.words = title.textContent;
    element.setAttribute("aria-label", title.textContent);
    title.remove();
    element.addEventListener("pointermove", (event) => show(element, event.clientX, event.clientY));
    element.addEventListener("pointerleave", hide);
    element.addEventListener("focus", () => {
      const box = element.getBoundingClientRect();
      show(element, box.right, box.top);
    });
    element.addEventListener("blur", hide);
  }
  for (const button of document.querySelectorAll("button[data-svg]")) {
    button.addEventListener("click", () => {
      const copy = document.querySelector(`#${CSS.escape(button.dataset.svg)} svg`).cloneNode(true);
      copy.setAttribute("xmlns", "http://www.w3.org/2000/svg");
      const blob = new Blob([new XMLSerializer().serializeToString(copy)], { type: "image/svg+xml" });
      const link = document.createElement("a");
      link.href = URL.createObjectURL(blob);
      link.download = `${button.dataset.svg}.svg`;
      link.click();
      URL.revokeObjectURL(link.href);
    });
  }
})();
