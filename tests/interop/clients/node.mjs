// Cycles by `fetch` and `undici`, as cycle.py describes them: four at a time. Prints what was sent.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { setTimeout as sleep } from 'node:timers/promises'
import { parseArgs } from 'node:util'

const WORKERS = 4

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    protocol: { type: 'string', default: 'HTTP/1.1' },
    ca: { type: 'string' },
    pause: { type: 'string', default: '0' }
  }
})
const [library, url, cycles] = positionals
const counts = {}
const count = (what, n = 1) => { counts[what] = (counts[what] ?? 0) + n }

// The label of the metrics.
function route (path) {
  const [start, query] = path.split('?')
  const parts = start.split('/')
  if (parts.length > 2) parts[2] = '{id}'
  return parts.join('/') + (query?.includes('wait=') ? '?wait' : '')
}

// `fetch` trusts NODE_EXTRA_CA_CERTS, and speaks HTTP/1.1.
async function byFetch (method, path, init) {
  const reply = await fetch(url + path, { method, ...init })
  return { status: reply.status, header: name => reply.headers.get(name), json: await reply.json() }
}

// Each connection must have the protocol that is asked for.
async function byUndici () {
  const { Agent, buildConnector, request } = await import('undici')
  const allowH2 = options.protocol === 'HTTP/2'
  const connector = buildConnector({ allowH2, ca: options.ca && readFileSync(options.ca) })
  const connect = (target, done) => connector(target, (error, socket) => {
    if (socket) assert.equal(socket.alpnProtocol === 'h2', allowH2, socket.alpnProtocol)
    done(error, socket)
  })
  const dispatcher = new Agent({ allowH2, connect })
  return async (method, path, init) => {
    const reply = await request(url + path, { method, ...init, dispatcher })
    return { status: reply.statusCode, header: name => reply.headers[name], json: await reply.body.json() }
  }
}

const transport = library === 'fetch' ? byFetch : await byUndici()

async function send (method, path, status, { json, ifMatch } = {}) {
  const headers = {}
  if (json !== undefined) headers['content-type'] = 'application/json'
  if (ifMatch !== undefined) headers['if-match'] = ifMatch
  const answer = await transport(method, path, { headers, body: json === undefined ? undefined : JSON.stringify(json) })
  assert.equal(answer.status, status, `${method} ${path}: ${JSON.stringify(answer.json)}`)
  count(`${method} ${route(path)} ${status}`)
  return answer
}

async function lease () {
  const answer = await send('GET', '/keys?wait=1s', 200)
  count('leased')
  assert(answer.header('lease-expires-at'))
  return [answer.json.keyId, answer.header('etag')]
}

async function cycle (number) {
  let answer = await send('POST', '/keys', 201, { json: { count: 3 } })
  assert.equal(answer.json.keyIds.length, 3)
  answer = await send('POST', '/keys', 201)
  assert.equal(answer.header('location'), '/keys/' + answer.json.keyId)
  count('created', 4)

  for (let turn = 0; turn < 3; turn++) {
    const [key, ifMatch] = await lease()
    answer = await send('PUT', `/keepalive/${key}`, 200)
    assert(answer.header('key-expires-at'))
    answer = await send('PUT', `/keys/${key}/lease`, 200, { ifMatch })
    assert.equal(answer.header('etag'), ifMatch)
    // The tag of an earlier lease ends nothing.
    const earlier = JSON.stringify(String(Number(JSON.parse(ifMatch)) - 1))
    await send('PUT', `/keys/${key}`, 412, { ifMatch: earlier })
    count('stale')
    await send('PUT', `/keys/${key}${turn === number % 3 ? '?cooldown=5ms' : ''}`, 200, { ifMatch })
    count('released')
  }

  answer = await send('GET', '/keys?count=2&wait=1s', 200)
  const keyIds = answer.json.keys.map(lease => lease.keyId)
  assert(keyIds.length === 1 || keyIds.length === 2)
  answer = await send('PUT', '/keepalive', 200, { json: { keyIds } })
  assert.deepEqual(answer.json, { missing: [] })
  const unknown = randomUUID()
  answer = await send('PUT', '/keys', 200, { json: { keyIds: [...keyIds, unknown] } })
  assert.deepEqual(answer.json, { missing: [unknown] })
  count('leased', keyIds.length)
  count('released', keyIds.length)

  await send('GET', `/keys/${unknown}`, 404)
  await send('GET', '/keys?wait=soon', 400)
  await send('PUT', '/keys', 422, { json: {} })

  let last
  for (let turn = 0; turn < 3; turn++) {
    const [key, ifMatch] = last = await lease()
    await send('DELETE', `/keys/${key}`, 200, { ifMatch })
    count('deleted')
  }
  await send('DELETE', `/keys/${last[0]}`, 404, { ifMatch: last[1] })

  const stats = (await send('GET', '/stats', 200)).json
  assert.equal(stats.keys, stats.free + stats.blocked + stats.cooling)
  assert.equal(stats.totals.created, stats.totals.deleted + stats.keys)
}

await Promise.all(Array.from({ length: WORKERS }, async (_, worker) => {
  for (let number = worker; number < Number(cycles); number += WORKERS) {
    await cycle(number)
    await sleep(1000 * Number(options.pause))
  }
}))
console.log(JSON.stringify(counts))
process.exit()
