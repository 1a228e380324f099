// openapi-fetch with the types that openapi-typescript generates, against the server.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import createClient from 'openapi-fetch'
import type { paths } from './schema.js'

const [baseUrl, token] = process.argv.slice(2)
const client = createClient<paths>({ baseUrl, headers: { Authorization: `Bearer ${token}` } })

async function oneKey () {
  const created = await client.POST('/keys')
  assert(created.data && 'keyId' in created.data)
  const id = created.data.keyId
  const path = { id }
  assert.equal(created.response.headers.get('location'), `/keys/${id}`)

  const leased = await client.GET('/keys', { params: { query: { lease: '30s', wait: '1s' } } })
  assert.deepEqual(leased.data, { keyId: id })
  assert(leased.response.headers.get('lease-expires-at'))
  const tag = leased.response.headers.get('etag')
  assert(tag)
  const header = { 'If-Match': tag }
  const shown = await client.GET('/keys/{id}', { params: { path } })
  assert(shown.data && shown.data.isBlocked && shown.data.blockedAt! >= shown.data.createdAt)

  const renewed = await client.PUT('/keys/{id}/lease', { params: { path, header, query: { lease: '45s' } } })
  assert.deepEqual([renewed.data, renewed.response.headers.get('etag')], [{}, tag])
  assert.deepEqual((await client.PUT('/keepalive/{id}', { params: { path } })).data, {})
  const released = await client.PUT('/keys/{id}', { params: { path, header, query: { cooldown: '1ms' } } })
  assert.deepEqual(released.data, {})
  // With that the lease is over.
  const stale = await client.PUT('/keys/{id}', { params: { path, header } })
  assert(stale.error && 'type' in stale.error)
  assert.deepEqual([stale.error.status, stale.error.type], [412, '/problems/stale-lease'])
  assert.deepEqual((await client.DELETE('/keys/{id}', { params: { path } })).data, {})
}

async function manyKeys () {
  const created = await client.POST('/keys', { body: { count: 3 } })
  assert(created.data && 'keyIds' in created.data)
  const { keyIds } = created.data
  const leased = await client.GET('/keys', { params: { query: { count: 3 } } })
  assert(leased.data && 'keys' in leased.data)
  assert.deepEqual(leased.data.keys.map(lease => lease.keyId).sort(), [...keyIds].sort())
  assert(leased.data.keys.every(lease => lease.etag))
  assert.deepEqual((await client.PUT('/keepalive', { body: { keyIds } })).data, { missing: [] })
  const unknown = randomUUID()
  const released = await client.PUT('/keys', { body: { keyIds: [...keyIds, unknown] } })
  assert.deepEqual(released.data, { missing: [unknown] })
  const stats = await client.GET('/stats')
  assert.deepEqual([stats.data?.free, stats.data?.blocked], [3, 0])
  for (const id of keyIds) {
    assert.deepEqual((await client.DELETE('/keys/{id}', { params: { path: { id } } })).data, {})
  }
}

async function ownKeys () {
  const path = { pool: 'own' }
  await client.PUT('/pools/{pool}', { params: { path }, body: { keyTtl: 'never' } })
  const body = { keys: [{ value: 'sk-1', labels: { plan: 'pro' } }, { value: 'sk-2' }] }
  const imported = await client.POST('/pools/{pool}/keys', { params: { path }, body })
  assert(imported.data && 'keyIds' in imported.data)
  const keyId = imported.data.keyIds[0]
  const leased = await client.GET('/pools/{pool}/keys', { params: { path, query: { label: 'plan:pro', holder: 'worker-7' } } })
  assert.deepEqual(leased.data, { keyId, value: 'sk-1' })
  const listed = await client.GET('/pools/{pool}/inventory', { params: { path, query: { state: 'blocked' } } })
  assert.deepEqual(listed.data?.keys.map(key => [key.keyId, key.holder, key.labels]), [[keyId, 'worker-7', { plan: 'pro' }]])
  const taken = await client.DELETE('/pools/{pool}/leases', { params: { path, query: { holder: 'worker-7' } } })
  assert.deepEqual(taken.data, { released: 1 })
  assert.deepEqual((await client.DELETE('/pools/{pool}', { params: { path, query: { keys: 'delete' } } })).data, {})
}

async function refusals () {
  const unknown = await client.GET('/keys/{id}', { params: { path: { id: randomUUID() } } })
  assert.deepEqual([unknown.response.status, unknown.error], [404, {}])
  assert.equal((await client.GET('/keys')).response.status, 404)
  const invalid = await client.GET('/keys', { params: { query: { lease: 'soon' } } })
  assert(invalid.error && 'type' in invalid.error)
  assert.deepEqual([invalid.error.status, invalid.error.type], [400, '/problems/invalid-parameter'])
  const stranger = createClient<paths>({ baseUrl, headers: { Authorization: 'Bearer wrong' } })
  const refused = await stranger.GET('/stats')
  assert.deepEqual([refused.error?.status, refused.error?.type], [401, '/problems/unauthorized'])
}

await oneKey()
await manyKeys()
await ownKeys()
await refusals()
console.log('openapi-typescript, openapi-fetch: all is well')
