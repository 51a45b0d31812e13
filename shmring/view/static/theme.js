// Light or dark: as the system says, until the button was pressed.

import { relabel } from "./dom.js";

const KEPT = "shmring-theme";
const system = matchMedia("(prefers-color-scheme: dark)");

export class Theme {
  /** `changed()` draws what does not change its colours by itself. */
  constructor(button, changed) {
    this.button = button;
    this.changed = changed;
    button.addEventListener("click", () => this.toggle());
    system.addEventListener("change", () => this.apply());
    this.apply();
  }

  get dark() {
    const kept = localStorage.getItem(KEPT);
    return kept ? kept === "dark" : system.matches;
  }

  toggle() {
    localStorage.setItem(KEPT, this.dark ? "light" : "dark");
    this.apply();
  }

  apply() {
    document.documentElement.dataset.theme = this.dark ? "dark" : "light";
    relabel(this.button, this.dark ? "sun" : "moon", this.dark ? "Light theme" : "Dark theme", "d");
    this.changed();
  }
}
