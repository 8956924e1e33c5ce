// What MCP clients in JavaScript do with the sample MCP server, one case a run,
// each with a login of its own:
//   mcp.mjs CASE v1|v2|remote
import { mkdtemp } from 'node:fs/promises'
import { join } from 'node:path'
import { approve, bound, expire, lab, listen, ok, open, run, same } from './lab.mjs'

const program = process.argv[3]

/** sdk gives the parts of an SDK. */
async function sdk() {
  if (program === 'v2') return import('@modelcontextprotocol/client')
  const [{ Client }, { StreamableHTTPClientTransport }, { UnauthorizedError }] = await Promise.all([
    import('@modelcontextprotocol/sdk/client/index.js'), import('@modelcontextprotocol/sdk/client/streamableHttp.js'), import('@modelcontextprotocol/sdk/client/auth.js'),
  ])
  return { Client, StreamableHTTPClientTransport, UnauthorizedError }
}

/** Memory is an OAuthClientProvider that keeps everything until the script ends. */
class Memory {
  logins = 0
  dropped = []
  replaced = new Set()

  constructor(redirectUrl, known) {
    this.redirectUrl = redirectUrl
    Object.assign(this, known)
    this.clientMetadata = {
      client_name: 'Interop', redirect_uris: [redirectUrl], token_endpoint_auth_method: 'none',
      grant_types: ['authorization_code', 'refresh_token'], response_types: ['code'],
    }
  }

  state() { return (this.sent = crypto.randomUUID()) }
  clientInformation() { return this.information }
  saveClientInformation(information) { this.information = information }
  tokens() { return this.held }
  /** saveTokens does not go back: of renewals that overtake each other, the answer with a token that was replaced already may come last. */
  saveTokens(tokens) {
    if (this.replaced.has(tokens.refresh_token)) return
    if (this.held && this.held.refresh_token !== tokens.refresh_token) this.replaced.add(this.held.refresh_token)
    this.held = tokens
  }
  saveCodeVerifier(verifier) { this.verifier = verifier }
  codeVerifier() { return this.verifier }
  discoveryState() { return this.discovered }
  saveDiscoveryState(discovered) { this.discovered = discovered }
  invalidateCredentials(what) {
    this.dropped.push(what)
    if (what === 'all' || what === 'tokens') this.held = undefined
    if (what === 'all' || what === 'client') this.information = undefined
  }

  redirectToAuthorization(url) {
    this.logins++
    this.asked = url
    open(url)
  }
}

/** direct is a client that speaks with the server itself. */
async function direct(known) {
  const { Client, StreamableHTTPClientTransport, UnauthorizedError } = await sdk()
  const back = await listen()
  const provider = new Memory(back.redirect, known)
  const client = new Client({ name: 'interop', version: '1' })
  const transport = () => new StreamableHTTPClientTransport(new URL(lab.mcp), { authProvider: provider })
  const returns = async t => {
    const { searchParams } = await back.next()
    same(searchParams.get('state'), provider.sent, 'state')
    await t.finishAuth(program === 'v2' ? searchParams : searchParams.get('code'))
  }
  let t = transport()
  try {
    await client.connect(t)
  } catch (e) {
    if (!(e instanceof UnauthorizedError)) throw e
    await returns(t)
    await client.connect(t = transport())
  }
  return {
    provider,
    /** call calls a tool; again where version 1 takes the 401 of a call that was under way for one after its renewal. */
    async call(name) {
      try {
        return await client.callTool({ name, arguments: {} })
      } catch (e) {
        if (program !== 'v1' || !/401 after successful authentication/.test(e.message)) throw e
        return client.callTool({ name, arguments: {} })
      }
    },
    /** login calls a tool for which the person has to be asked again. */
    async login(name) {
      try {
        return await client.callTool({ name, arguments: {} })
      } catch (e) {
        if (!(e instanceof UnauthorizedError)) throw e
        await returns(t)
        return client.callTool({ name, arguments: {} })
      }
    },
  }
}

/** through is a client that speaks with mcp-remote, which speaks with the server. */
async function through(...flags) {
  const [{ Client }, { StdioClientTransport }] = await Promise.all([
    import('@modelcontextprotocol/sdk/client/index.js'), import('@modelcontextprotocol/sdk/client/stdio.js'),
  ])
  const kept = await mkdtemp(join(process.env.HOME, 'mcp-remote-'))
  const transport = new StdioClientTransport({
    command: process.execPath, args: ['--import', './js/distinct.mjs', 'node_modules/mcp-remote/dist/proxy.js', ...flags], stderr: 'pipe',
    env: { ...process.env, MCP_REMOTE_CONFIG_DIR: kept, PATH: kept }, // where no program opens browsers
  })
  const provider = { logins: 0, dropped: [] }
  let said = ''
  transport.stderr.on('data', data => {
    process.stderr.write(data)
    said += data
    for (let m; (m = /visiting:\s+(https:\S+)\s/.exec(said)); said = said.slice(m.index + m[0].length)) {
      provider.logins++
      open(provider.asked = new URL(m[1]))
    }
  })
  if (flags.includes('--device-code')) {
    transport.stderr.on('data', () => {
      const m = /visit:[^]*?(https:\S+)\s/.exec(said)
      if (!m) return
      said = ''
      provider.logins++
      approve(m[1]) // the code is in it
    })
  }
  const client = new Client({ name: 'interop', version: '1' })
  await client.connect(transport)
  return { provider, call: name => client.callTool({ name, arguments: {} }) }
}

const text = answer => {
  ok(!answer.isError, `the tool failed: ${JSON.stringify(answer)}`)
  return answer.content[0].text
}

const known = { information: { client_id: 'mcp-client' } }
const remote = program === 'remote'

/** configured are the arguments of mcp-remote in the configuration that docs/connect/mcp.md shows. */
function configured() {
  const { command, args: [flag, name, ...args] } = JSON.parse(lab.configuration).mcpServers.tools
  same([command, flag, name], ['npx', '-y', 'mcp-remote'], 'the program')
  return args
}

const connect = () => remote ? through(...configured()) : direct(known)

/** lasts has four calls under way whenever the token expires: nobody is signed out. */
async function lasts({ call, provider }, rounds) {
  const who = text(await call('whoami'))
  for (let round = 0; round < rounds; round++) {
    const before = provider.held?.access_token
    await expire()
    const said = await Promise.all(Array.from({ length: 4 }, () => call('whoami')))
    same(said.map(text), [who, who, who, who], 'who is asking')
    ok(remote || provider.held.access_token !== before, 'it is the same token')
  }
  same([provider.logins, provider.dropped], [1, []], 'logins, and what was dropped')
}

await run({
  async 'login and tool call'() {
    const { call, provider } = await connect()
    ok(text(await call('whoami')), 'nobody is asking')
    same(provider.logins, 1, 'logins')
    same(provider.asked.searchParams.get('scope'), 'tools:use', "the challenge's scope")
    same(provider.asked.searchParams.get('resource'), lab.mcp, 'resource')
  },
  async 'refresh, and four parallel calls at expiry'() {
    await lasts(await connect(), 3)
  },
  async 'more scope on 403'() {
    const { login, call, provider } = await direct(known)
    text(await call('whoami'))
    same(text(await login('deploy')), 'Deployed.', 'the tool')
    same(provider.logins, 2, 'logins')
  },
  async 'device flow'() {
    await lasts(await through(...configured(), '--device-code'), 1)
  },
  async DPoP() {
    const { DpopSession } = await sdk()
    const session = await DpopSession.create()
    const { call, provider } = await direct({ ...known, dpop: () => session })
    ok(text(await call('whoami')), 'nobody is asking')
    same([provider.held.token_type, bound(provider.held.access_token).jkt], ['DPoP', session.thumbprint], 'the binding')
    const before = provider.held.access_token
    provider.held = { ...provider.held, access_token: `${before}x` } // the server says 401, and it renews
    ok(text(await call('whoami')), 'nobody is asking')
    ok(![before, `${before}x`].includes(provider.held.access_token), 'it was not renewed')
    same(provider.logins, 1, 'logins')
  },
  async 'a metadata document'() {
    const app = remote ? await through(lab.mcp, '--client-metadata-url', lab.document) : await direct({ clientMetadataUrl: lab.document })
    await lasts(app, 1)
    same(app.provider.asked.searchParams.get('client_id'), lab.document, 'client_id')
  },
  async 'registers itself'() {
    const app = remote ? await through(lab.mcp) : await direct({})
    await lasts(app, 1)
    ok(app.provider.asked.searchParams.get('client_id'), 'no client_id')
  },
})
