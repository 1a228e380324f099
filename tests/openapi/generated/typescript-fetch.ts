// The client that openapi-generator generates for TypeScript (typescript-fetch), against the server.
import assert from 'node:assert/strict'
import { randomUUID } from 'node:crypto'
import { Configuration, DetailsFromJSON, KeyApi, ManyApi, NamedApi, PoolApi, PoolsApi, ResponseError } from './typescript-fetch/index.js'

const [basePath, accessToken] = process.argv.slice(2)
const configuration = new Configuration({ basePath, accessToken })
const pool = new PoolApi(configuration)
const keys = new KeyApi(configuration)
const many = new ManyApi(configuration)
const named = new NamedApi(configuration)
const pools = new PoolsApi(configuration)

// A refusal is an exception that has the answer.
async function refused (request: Promise<unknown>, status: number, type: string) {
  const failure: unknown = await request.then(() => assert.fail('it was not refused'), failure => failure)
  assert(failure instanceof ResponseError, String(failure))
  const details = DetailsFromJSON(await failure.response.json())
  assert.deepEqual([failure.response.status, details.status, details.type], [status, status, type])
}

async function oneKey () {
  const created = await pool.createKeysRaw({})
  const value = await created.value()
  assert('keyId' in value)
  const id = value.keyId
  assert.equal(created.raw.headers.get('location'), `/keys/${id}`)

  const leased = await pool.leaseKeyRaw({ lease: '30s', wait: '1s' })
  const given = await leased.value()
  assert('keyId' in given)
  assert.deepEqual([given.keyId, given.value], [id, undefined])
  assert(leased.raw.headers.get('lease-expires-at'))
  const ifMatch = leased.raw.headers.get('etag')
  assert(ifMatch)
  const info = await keys.showKey({ id })
  assert(info.isBlocked && info.blockedAt instanceof Date && info.blockedAt >= info.createdAt)

  const renewed = await keys.renewLeaseRaw({ id, lease: '45s', ifMatch })
  assert.equal(renewed.raw.headers.get('etag'), ifMatch)
  assert.deepEqual(await keys.keepKeyAlive({ id }), {})
  assert.deepEqual(await keys.releaseKey({ id, cooldown: '1ms', ifMatch }), {})
  // With that the lease is over.
  await refused(keys.releaseKey({ id, ifMatch }), 412, '/problems/stale-lease')
  assert.deepEqual(await keys.deleteKey({ id }), {})
}

async function manyKeys () {
  const created = await pool.createKeys({ create: { count: 3 } })
  assert('keyIds' in created)
  const { keyIds } = created
  const leased = await pool.leaseKey({ count: 3 })
  assert('keys' in leased)
  assert.deepEqual(leased.keys.map(lease => lease.keyId).sort(), [...keyIds].sort())
  assert(leased.keys.every(lease => lease.etag))
  assert.deepEqual(await many.keepKeysAlive({ keys: { keyIds } }), { missing: [] })
  const unknown = randomUUID()
  assert.deepEqual(await many.releaseKeys({ keys: { keyIds: [...keyIds, unknown] } }), { missing: [unknown] })
  const stats = await pool.showStats()
  assert.deepEqual([stats.free, stats.blocked], [3, 0])
  for (const id of keyIds) await keys.deleteKey({ id })
}

async function ownKeys () {
  const of = { pool: 'own' }
  await pools.putPool({ ...of, given: { keyTtl: 'never' } })
  const create = { keys: [{ value: 'sk-1', labels: { plan: 'pro' } }, { value: 'sk-2' }] }
  const imported = await named.createKeysInPool({ ...of, create })
  assert('keyIds' in imported)
  const leased = await named.leaseKeyInPool({ ...of, label: 'plan:pro', holder: 'worker-7' })
  assert('keyId' in leased)
  assert.deepEqual([leased.keyId, leased.value], [imported.keyIds[0], 'sk-1'])
  const listed = await pools.listKeys({ ...of, state: 'blocked' })
  assert.deepEqual(listed.keys.map(key => [key.keyId, key.holder, key.labels]), [[leased.keyId, 'worker-7', { plan: 'pro' }]])
  assert.deepEqual(await named.takeBackLeasesInPool({ ...of, holder: 'worker-7' }), { released: 1 })
  assert.deepEqual(await pools.deletePool({ ...of, keys: 'delete' }), {})
}

async function refusals () {
  const unknown: unknown = await keys.showKey({ id: randomUUID() }).catch(failure => failure)
  assert(unknown instanceof ResponseError && unknown.response.status === 404)
  await refused(pool.leaseKey({ lease: 'soon' }), 400, '/problems/invalid-parameter')
  await refused(pool.createKeys({ create: { count: 0 } }), 422, '/problems/invalid-body')
  const stranger = new PoolApi(new Configuration({ basePath, accessToken: 'wrong' }))
  await refused(stranger.showStats(), 401, '/problems/unauthorized')
}

await oneKey()
await manyKeys()
await ownKeys()
await refusals()
console.log('openapi-generator, typescript-fetch: all is well')
