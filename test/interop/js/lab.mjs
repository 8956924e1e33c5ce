// What the scripts share: the lab they run in, and how they ask for a person.
import { readFileSync } from 'node:fs'
import { createServer } from 'node:http'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { Agent, fetch } from 'undici'

export const lab = JSON.parse(process.env.LAB)
export const issuer = new URL(lab.issuer)

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()

/** open has the person's browser go to an address. */
export function open(url) {
  process.stdout.write(JSON.stringify({ open: String(url) }) + '\n')
}

/** approve has the person go to an address, with a code to type there, and agree to what they find. */
export function approve(url, code) {
  process.stdout.write(JSON.stringify({ approve: String(url), code }) + '\n')
}

/** visit does, and gives the request that the browser then made to the callback. */
export async function visit(url) {
  open(url)
  const { value, done } = await lines.next()
  if (done) throw new Error('the browser did not come back')
  const { url: back, form } = JSON.parse(value)
  if (!form) return new URL(back)
  return new Request(back, { method: 'POST', body: form, headers: { 'content-type': 'application/x-www-form-urlencoded' } })
}

/** expire lets the time of access tokens pass, for the servers. */
export async function expire() {
  process.stdout.write(JSON.stringify({ expire: true }) + '\n')
  await lines.next()
}

/** listen waits for the browser as an app on a computer does. */
export async function listen() {
  const waiting = [], came = []
  const server = createServer((request, response) => {
    const url = new URL(request.url, 'http://127.0.0.1')
    response.setHeader('content-type', 'text/html')
    response.end('<!doctype html><html lang="en"><title>The app</title><link rel="icon" href="data:,"><main><h1>Back in the app</h1></main>')
    if (url.pathname !== '/callback') return
    if (waiting.length) waiting.shift()(url)
    else came.push(url)
  })
  await new Promise(resolve => server.listen(0, '127.0.0.1', resolve))
  return {
    redirect: `http://127.0.0.1:${server.address().port}/callback`,
    next: () => came.length ? came.shift() : new Promise(resolve => waiting.push(resolve)),
  }
}

export function same(got, want, what) {
  if (JSON.stringify(got) !== JSON.stringify(want)) throw new Error(`${what}: ${JSON.stringify(got)}, not ${JSON.stringify(want)}`)
}

export function ok(value, what) {
  if (!value) throw new Error(what)
}

/** fails gives the error that a promise ends with. */
export async function fails(promise, what) {
  let error
  try { await promise } catch (e) { error = e }
  ok(error, `${what} was not refused`)
  return error
}

/** bound is what an access token is bound to. */
export const bound = token => JSON.parse(Buffer.from(token.split('.')[1], 'base64url')).cnf ?? {}

/** privateKey is the key of the clients that have one, for WebCrypto. */
export async function privateKey() {
  const der = Buffer.from(lab.key.replace(/-----[^-]+-----|\s/g, ''), 'base64')
  return crypto.subtle.importKey('pkcs8', der, { name: 'ECDSA', namedCurve: 'P-256' }, false, ['sign'])
}

/** shown is a fetch that shows a certificate of the lab. */
export function shown(name) {
  const read = file => readFileSync(join(lab.folder, file), 'utf8')
  const dispatcher = new Agent({ connect: { cert: read(`${name}.pem`), key: read(`${name}-key.pem`), ca: read('ca.pem') } })
  return (url, options) => fetch(url, { ...options, dispatcher })
}

/** run runs the case that the command line names, and ends the process. */
export async function run(cases) {
  const name = process.argv[2]
  try {
    ok(cases[name], `there is no case ${name}`)
    await cases[name]()
  } catch (e) {
    console.error(e, e.cause ?? '')
    process.exit(1)
  }
  process.exit(0)
}
