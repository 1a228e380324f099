// ---- Requests

/** A refusal, or that there was no answer, in words for people; `type` is for programs. */
class Refusal extends Error {
  constructor(status, title, detail = '', type = '') {
    super(title);
    Object.assign(this, { status, title, detail, type });
  }
}

async function request(path, { role = 'client or admin', headers = {}, ...options } = {}) {
  const token = sessionStorage.getItem(TOKEN);
  if (token) headers = { ...headers, Authorization: `Bearer ${token}` };
  let response;
  try {
    response = await fetch(path, { cache: 'no-store', credentials: 'omit', redirect: 'error', headers, ...options });
  } catch (error) {
    if (error.name === 'AbortError') throw error;
    throw new Refusal(0, 'The server cannot be reached', options.method ? 'The request may or may not have been carried out. See what has become of it, or try again.' : '');
  }
  if (response.ok) return response;
  let problem = {};
  try { problem = await response.json() ?? {}; } catch { /* not every refusal has a body */ }
  const { title = response.statusText || `Status ${response.status}`, detail = '' } = problem;
  if (response.status === 404 && !problem.type && /(^|\/)keys\//.test(path)) throw new Refusal(404, 'No such key', 'It has expired, was deleted, or never existed.');
  if (response.status === 401) {
    askForToken(token);
    if (token && token === sessionStorage.getItem(TOKEN)) sessionStorage.removeItem(TOKEN);
    throw new Refusal(401, token ? 'The server does not accept this token' : 'A token is needed', 'Enter one at the top of the page.');
  }
  if (problem.type === '/problems/forbidden') throw new Refusal(403, `The token does not allow this: it needs the role ${role}`, String(detail));
  throw new Refusal(response.status, String(title), String(detail), String(problem.type ?? ''));
}

function askForToken(refused) {
  $('auth-note').textContent = refused ? 'The server does not accept this token.' : 'This server asks for a token. Enter one that its operator gave you, such as tok_….';
  $('auth-note').dataset.kind = refused ? 'bad' : '';
  if (!$('auth').hidden) return;
  $('auth').hidden = false;
  $('token').focus();
}
$('auth-form').addEventListener('submit', event => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $('token').value.trim());
  $('token').value = '';
  $('auth').hidden = true;
  link.start();
});
$('forget').addEventListener('click', () => {
  sessionStorage.removeItem(TOKEN);
  link.start();
});
