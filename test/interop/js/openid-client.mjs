// What openid-client does with the server, one case a run.
import * as client from 'openid-client'
import { approve, bound, fails, issuer, lab, ok, privateKey, run, same, shown, visit } from './lab.mjs'

const secret = client.ClientSecretBasic
const discover = (id, auth, metadata) => client.discovery(issuer, id, metadata, auth)
const web = () => discover('web-app', secret(lab.secrets['web-app']))
const keyed = async () => discover('keyed-app', client.PrivateKeyJwt(await privateKey()))
const spa = () => discover('spa', client.None())

/** request is a new authorization request and what has to be remembered of it. */
async function request(more) {
  const pkceCodeVerifier = client.randomPKCECodeVerifier()
  const expectedState = client.randomState(), expectedNonce = client.randomNonce()
  return {
    checks: { pkceCodeVerifier, expectedState, expectedNonce, idTokenExpected: true },
    parameters: {
      redirect_uri: lab.callback, scope: 'openid profile notes:read', state: expectedState, nonce: expectedNonce,
      code_challenge: await client.calculatePKCECodeChallenge(pkceCodeVerifier), code_challenge_method: 'S256', ...more,
    },
  }
}

async function login(config, options, build = client.buildAuthorizationUrl) {
  const { checks, parameters } = await request()
  const back = await visit(await build(config, parameters, options))
  return client.authorizationCodeGrant(config, back, checks, undefined, options)
}

async function reads(config, tokens, options) {
  const answer = await client.fetchProtectedResource(config, tokens.access_token, new URL('/notes', lab.api), 'GET', undefined, undefined, options)
  same(answer.status, 200, 'the API')
  ok((await answer.json()).notes.length > 0, 'the API gave no notes')
}

await run({
  async discovery() {
    for (const algorithm of ['oidc', 'oauth2']) {
      const config = await client.discovery(issuer, 'spa', undefined, client.None(), { algorithm })
      const as = config.serverMetadata()
      same(as.issuer, lab.issuer, 'issuer')
      ok(as.supportsPKCE(), 'PKCE is not announced')
      ok(as.authorization_response_iss_parameter_supported, 'iss is not announced')
    }
  },
  async 'code with PKCE'() { // with the code of docs/connect/openid-client.md
    process.env.CLIENT_SECRET = lab.secrets['web-app']
    const { begin, finish } = await import(`${lab.folder}/login.mjs`)
    const session = {}
    const tokens = await finish(session, await visit(await begin(session)))
    const config = await web()
    same(tokens.scope, 'openid profile notes:read', 'scope')
    same(tokens.token_type, 'bearer', 'token type')
    same(tokens.claims().aud, 'web-app', 'audience of the ID token')
    await reads(config, tokens)
    const single = await spa()
    await reads(single, await login(single))
  },
  async 'form post'() {
    const config = await web()
    const { checks, parameters } = await request({ response_mode: 'form_post' })
    const back = await visit(client.buildAuthorizationUrl(config, parameters))
    ok(back instanceof Request, 'it came in the query')
    ok((await client.authorizationCodeGrant(config, back, checks)).access_token, 'no token')
  },
  async 'pushed request'() {
    const config = await web()
    await reads(config, await login(config, undefined, client.buildAuthorizationUrlWithPAR))
  },
  async 'signed request'() {
    const key = await privateKey()
    const config = await discover('signing-app', client.PrivateKeyJwt(key))
    const tokens = await login(config, undefined, (c, p) => client.buildAuthorizationUrlWithJAR(c, p, key))
    await reads(config, tokens)
    const pushed = await login(config, undefined, async (c, p) =>
      client.buildAuthorizationUrlWithPAR(c, (await client.buildAuthorizationUrlWithJAR(c, p, key)).searchParams))
    await reads(config, pushed)
    const { parameters } = await request()
    const back = await visit(client.buildAuthorizationUrl(config, parameters))
    same(back.searchParams.get('error'), 'invalid_request', 'an unsigned request')
  },
  async DPoP() {
    const config = await spa()
    const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))
    const tokens = await login(config, { DPoP })
    same(tokens.token_type, 'dpop', 'token type')
    await reads(config, tokens, { DPoP })
    const again = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP })
    await reads(config, again, { DPoP })
    const other = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))
    same((await fails(client.refreshTokenGrant(config, again.refresh_token, undefined, { DPoP: other }), 'another key')).error, 'invalid_grant', 'another key')
  },
  async 'DPoP, pushed request and private_key_jwt'() {
    const config = await keyed()
    const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))
    const tokens = await login(config, { DPoP }, client.buildAuthorizationUrlWithPAR)
    same(tokens.token_type, 'dpop', 'token type')
    await reads(config, tokens, { DPoP })
  },
  async 'mutual TLS'() {
    for (const [id, certificate] of [['certified-app', 'app.example.com'], ['self-signed-app', 'self-signed']]) {
      const config = await discover(id, client.TlsClientAuth(), { use_mtls_endpoint_aliases: true })
      config[client.customFetch] = shown(certificate)
      const tokens = await login(config)
      ok(bound(tokens.access_token)['x5t#S256'], 'the token is bound to no certificate')
      await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub)
      await client.refreshTokenGrant(config, tokens.refresh_token)
      config[client.customFetch] = shown(certificate === 'self-signed' ? 'app.example.com' : 'self-signed')
      const e = await fails(client.refreshTokenGrant(config, tokens.refresh_token), "another's certificate")
      same(e.error, 'invalid_client', "another's certificate")
    }
  },
  async 'FAPI profile, private_key_jwt and DPoP'() {
    const config = await discover('fapi-app', client.PrivateKeyJwt(await privateKey()))
    const DPoP = client.getDPoPHandle(config, await client.randomDPoPKeyPair('ES256'))
    const tokens = await login(config, { DPoP }, client.buildAuthorizationUrlWithPAR)
    await reads(config, tokens, { DPoP })
    const again = await client.refreshTokenGrant(config, tokens.refresh_token, undefined, { DPoP })
    same(again.refresh_token ?? tokens.refresh_token, tokens.refresh_token, 'the refresh token')
    const { parameters } = await request()
    const back = await visit(client.buildAuthorizationUrl(config, parameters))
    same(back.searchParams.get('error'), 'invalid_request', 'a request that was not pushed')
    const e = await fails(client.refreshTokenGrant(config, tokens.refresh_token), 'a refresh without a proof')
    same(e.error, 'invalid_dpop_proof', 'a refresh without a proof')
  },
  async 'FAPI profile, mutual TLS'() {
    const config = await discover('fapi-certified-app', client.TlsClientAuth(), { use_mtls_endpoint_aliases: true })
    config[client.customFetch] = shown('app.example.com')
    const tokens = await login(config, undefined, client.buildAuthorizationUrlWithPAR)
    ok(bound(tokens.access_token)['x5t#S256'], 'the token is bound to no certificate')
    await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub)
    await client.refreshTokenGrant(config, tokens.refresh_token)
  },
  async refresh() {
    const config = await web()
    const tokens = await login(config)
    const again = await client.refreshTokenGrant(config, tokens.refresh_token)
    ok(again.access_token !== tokens.access_token, 'it is the same token')
    same(again.claims().sub, tokens.claims().sub, 'subject')
    await reads(config, again)
    const many = await Promise.all(Array.from({ length: 8 }, () => client.refreshTokenGrant(config, again.refresh_token)))
    same(new Set(many.map(t => t.refresh_token)).size, 1, 'successors of one refresh token')
    const less = await client.refreshTokenGrant(config, many[0].refresh_token, { scope: 'notes:read' })
    same(less.scope, 'notes:read', 'a narrower scope')
  },
  async userinfo() {
    const config = await web()
    const tokens = await login(config)
    const info = await client.fetchUserInfo(config, tokens.access_token, tokens.claims().sub)
    same([info.name, info.preferred_username], ['Dana Example', 'dana'], 'userinfo')
  },
  async introspection() {
    const config = await web()
    const tokens = await login(config)
    const api = await discover('notes-api', secret(lab.secrets['notes-api']))
    const about = await client.tokenIntrospection(api, tokens.access_token)
    same([about.active, about.client_id, about.aud], [true, 'web-app', lab.api], 'introspection')
    same(await client.tokenIntrospection(config, tokens.access_token), { active: false }, 'introspection by who is not entitled')
  },
  async revocation() {
    const config = await web()
    const tokens = await login(config)
    await client.tokenRevocation(config, tokens.refresh_token)
    same((await fails(client.refreshTokenGrant(config, tokens.refresh_token), 'a revoked token')).error, 'invalid_grant', 'a revoked token')
    const api = await discover('notes-api', secret(lab.secrets['notes-api']))
    same(await client.tokenIntrospection(api, tokens.access_token), { active: false }, 'introspection of a revoked grant')
  },
  async 'client credentials'() {
    const config = await discover('nightly', client.ClientSecretPost(lab.secrets.nightly))
    const tokens = await client.clientCredentialsGrant(config, { scope: 'notes:read', resource: lab.api })
    await reads(config, tokens)
  },
  async 'device flow'() {
    const config = await discover('wallboard', client.None())
    const asked = await client.initiateDeviceAuthorization(config, { scope: 'notes:read' })
    approve(asked.verification_uri, asked.user_code)
    await reads(config, await client.pollDeviceAuthorizationGrant(config, asked))
  },
  async CIBA() {
    const config = await discover('call-centre', client.PrivateKeyJwt(await privateKey()))
    const asked = await client.initiateBackchannelAuthentication(config, { scope: 'openid notes:read', login_hint: 'dana', binding_message: 'W4SCT' })
    approve(`${lab.issuer}/account/requests`)
    await reads(config, await client.pollBackchannelAuthenticationGrant(config, asked))
  },
  async logout() {
    const config = await web()
    const tokens = await login(config)
    const state = client.randomState()
    const back = await visit(client.buildEndSessionUrl(config, { id_token_hint: tokens.id_token, post_logout_redirect_uri: lab.callback, state }))
    same(back.searchParams.get('state'), state, 'state')
  },
  async refusal() {
    const config = await web()
    const { checks, parameters } = await request({ prompt: 'none', max_age: '0' })
    const back = await visit(client.buildAuthorizationUrl(config, parameters))
    const e = await fails(client.authorizationCodeGrant(config, back, checks), 'prompt=none with max_age=0')
    same(e.error, 'interaction_required', 'prompt=none with max_age=0')
  },
})
