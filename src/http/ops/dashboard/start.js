
// ---- The start

setInterval(() => {
  if (document.hidden) return;
  countDown();
  if (link.state === 'reconnecting') redraw(); // The gap grows.
}, 1000);
choose(poolOfAddress());
