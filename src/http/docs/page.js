// What the page cannot say in HTML: where requests go to, and in which colours it is shown.
const page = document.querySelector("rapi-doc");
// The path of a proxy stands before all of them.
page.setAttribute("server-url", new URL("..", location.href).href.replace(/\/$/, ""));
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => page.setAttribute("theme", dark.matches ? "dark" : "light");
dark.addEventListener("change", follow);
follow();
