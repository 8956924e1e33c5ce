// The only script of the pages: passkey ceremonies, links whose secret is in
// the fragment, and three conveniences (copy, local time, time running out).
// Nothing here decides anything; the server does. The JSON it speaks is
// described in the package comment of internal/portal/view.

const $ = (root, what) => root.querySelector(what);
const all = (what) => document.querySelectorAll(what);

// Shown is a failure that has words for the person.
class Shown extends Error {
  constructor({ title, detail = "", ref = "", unknown_credential = false, rp_id = "" }) {
    super(title);
    Object.assign(this, { title, detail, ref, unknown: unknown_credential, rpId: rp_id });
  }
}

async function post(url, body, signal) {
  const stop = [AbortSignal.timeout(30000)];
  if (signal) stop.push(signal);
  let res;
  try {
    res = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify(body),
      credentials: "same-origin",
      cache: "no-store",
      redirect: "error",
      signal: AbortSignal.any ? AbortSignal.any(stop) : stop[0],
    });
  } catch (err) {
    if (signal?.aborted) throw err;
    throw new Shown({ title: "The server can't be reached.", detail: "Nothing was changed as far as this page knows. Check your connection, then press the button again." });
  }
  const out = await res.json().catch(() => null);
  if (out?.error?.title) throw new Shown(out.error);
  if (!res.ok || !out) {
    throw new Shown({ title: "The server gave an answer this page doesn't understand.", detail: `Its status was ${res.status}. Reload the page and take this step again.`, ref: res.headers.get("Countersign-Ref") ?? "" });
  }
  return out;
}

// go follows the server's answer: a path of ours, or the app's own address.
function go(out) {
  const to = new URL(out.location, document.baseURI);
  if (["javascript:", "data:", "blob:", "vbscript:"].includes(to.protocol)) {
    throw new Shown({ title: "The server named an address that this page won't open." });
  }
  location.assign(to);
}

// Words on the page: an alert takes the focus, a status does not and is no error.
function alertIn(root, err) {
  const box = $(root, "[data-alert]");
  const e = err instanceof Shown ? err : new Shown(words(err, "get"));
  box.hidden = false;
  $(box, "[data-title]").textContent = e.title;
  $(box, "[data-detail]").textContent = e.detail;
  $(box, "[data-ref]").textContent = e.ref ? `Reference ${e.ref}` : "";
  box.focus();
}
function quiet(root) {
  const box = $(root, "[data-alert]");
  if (box) box.hidden = true;
  say(root, "");
}
function say(root, text) {
  const line = $(root, "[data-says]");
  if (line) line.textContent = text;
}

// words turns what the browser threw into a sentence (WebAuthn L3 §5.1.3, §5.1.4).
function words(err, kind) {
  const make = kind === "create";
  switch (err?.name) {
    case "InvalidStateError":
      return make
        ? { title: "This device already has a passkey for your account.", detail: "Nothing was added. Choose another device or a security key." }
        : { title: "That passkey can't be used right now.", detail: "Close other passkey prompts, then press the button again." };
    case "SecurityError":
      return { title: "Passkeys don't work at this address.", detail: `This page was opened as ${location.origin}. Open it at the address that your administrator gave you.` };
    case "ConstraintError":
      return { title: "This device can't check that it's you.", detail: "Set up a PIN, fingerprint or face unlock on it, or use another device." };
    case "NotSupportedError":
      return { title: "This device can't make a passkey of the kind needed here.", detail: "Use another device or a newer security key." };
    default:
      return { title: "The passkey prompt could not be shown.", detail: `Your browser said: ${String(err?.name ?? "unknown")}. Close other passkey prompts, then press the button again.` };
  }
}

const unable = () => {
  if (!window.isSecureContext) return new Shown({ title: "Passkeys need a secure address.", detail: "Open this page with https, or as http://localhost on the machine itself." });
  if (!window.PublicKeyCredential?.parseRequestOptionsFromJSON) return new Shown({ title: "This browser can't use passkeys here.", detail: "Update it, or use a current Chrome, Edge, Firefox or Safari." });
  return null;
};

// serial is toJSON, done by hand for credentials that a password manager's
// extension made and that lack it.
function serial(cred) {
  try {
    return cred.toJSON();
  } catch {
    const b64 = (buf) => btoa(String.fromCharCode(...new Uint8Array(buf))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
    const response = {};
    for (const part of ["clientDataJSON", "attestationObject", "authenticatorData", "signature", "userHandle"]) {
      if (cred.response[part]) response[part] = b64(cred.response[part]);
    }
    if (cred.response.getTransports) response.transports = cred.response.getTransports();
    return {
      id: cred.id, rawId: b64(cred.rawId), type: cred.type, response,
      authenticatorAttachment: cred.authenticatorAttachment ?? undefined,
      clientExtensionResults: cred.getClientExtensionResults?.() ?? {},
    };
  }
}

// Only one WebAuthn call may run in a page: a new one first ends the old.
let running = null;

async function ceremony(form, mediation) {
  running?.abort();
  const mine = (running = new AbortController());
  const kind = form.dataset.passkey;
  const fields = () => Object.fromEntries(new FormData(form));
  let timer;
  let asked = false;
  try {
    const { publicKey } = await post(form.dataset.options, fields(), mine.signal);
    const parse = kind === "create" ? "parseCreationOptionsFromJSON" : "parseRequestOptionsFromJSON";
    const ask = { publicKey: PublicKeyCredential[parse](publicKey), signal: mine.signal };
    if (mediation) {
      ask.mediation = mediation;
      timer = setTimeout(() => mine.abort("stale"), (publicKey.timeout || 300000) * 0.8);
    }
    asked = true;
    const cred = await navigator.credentials[kind](ask);
    clearTimeout(timer);
    busy(form, true);
    form.dataset.last = cred.id;
    // A field may have been filled in while the prompt was open: read again.
    return { out: await post(form.dataset.finish, { ...fields(), credential: serial(cred) }) };
  } catch (err) {
    if (mine.signal.aborted) return { stopped: mine.signal.reason };
    if (err instanceof Shown && err.unknown && err.rpId) forget(err.rpId, form);
    err.early = !asked;
    throw err;
  } finally {
    clearTimeout(timer);
  }
}

// forget tells the password manager that a passkey is of no use here any more.
function forget(rpId, form) {
  const credentialId = form.dataset.last;
  if (credentialId) PublicKeyCredential.signalUnknownCredential?.({ rpId, credentialId }).catch(() => {});
}

function busy(form, on) {
  const b = $(form, "[data-go]");
  b.disabled = on;
  if (on) b.setAttribute("aria-busy", "true");
  else b.removeAttribute("aria-busy");
}

async function press(form) {
  quiet(form);
  busy(form, true);
  say(form, "Follow the prompt of your browser or device.");
  try {
    const { out } = await ceremony(form);
    if (out) {
      say(form, form.dataset.done || "Done. One moment…");
      go(out);
      return; // stays busy until the next page is here
    }
    say(form, "");
  } catch (err) {
    if (err?.name === "NotAllowedError" || err?.name === "AbortError") {
      // Closed, timed out, or nothing to choose from: browsers do not tell which.
      say(form, "Nothing happened – the passkey prompt was closed.");
      $(form, "[data-after-cancel]")?.removeAttribute("hidden");
    } else {
      say(form, "");
      alertIn(form, err instanceof Shown ? err : new Shown(words(err, form.dataset.passkey)));
    }
    autofill(form);
  }
  busy(form, false);
}

// autofill offers passkeys in the field's own list (conditional mediation). It
// takes a new challenge before the old one runs out, and only in a visible tab.
async function autofill(form) {
  if (!form.hasAttribute("data-conditional")) return;
  if (!(await PublicKeyCredential.isConditionalMediationAvailable?.())) return;
  if (document.hidden) {
    document.addEventListener("visibilitychange", () => autofill(form), { once: true });
    return;
  }
  try {
    const { out, stopped } = await ceremony(form, "conditional");
    if (out) {
      say(form, form.dataset.done || "Done. One moment…");
      go(out);
    } else if (stopped === "stale") {
      autofill(form);
    }
  } catch (err) {
    busy(form, false);
    // Not offered, or the list was closed: nobody asked, so nothing is said.
    // The button is there and says what is wrong.
    if (err.early || !(err instanceof Shown)) return;
    alertIn(form, err);
    if (form.dataset.again) return; // a server that keeps refusing is not asked for ever
    form.dataset.again = "1";
    autofill(form);
  }
}

for (const form of all("form[data-passkey]")) {
  form.addEventListener("submit", (e) => {
    e.preventDefault();
    if (!$(form, "[data-go]").disabled) press(form);
  });
  const no = unable();
  if (no) {
    alertIn(form, no);
    continue;
  }
  const b = $(form, "[data-go]");
  b.disabled = false;
  if (b.hasAttribute("data-focus")) b.focus();
  autofill(form);
}
addEventListener("pageshow", (e) => {
  if (e.persisted) for (const form of all("form[data-passkey]")) busy(form, false);
});

// A link whose secret is in the fragment (mechanisms I1): read it, take it out
// of the address bar and the history, post it.
for (const root of all("[data-open]")) {
  const secret = location.hash.slice(1);
  history.replaceState(null, "", location.pathname + location.search);
  if (!secret) {
    $(root, "[data-wait]").hidden = true;
    $(root, "[data-empty]").hidden = false;
    continue;
  }
  post(root.dataset.open, { secret }).then(go).catch((err) => {
    $(root, "[data-wait]").hidden = true;
    alertIn(root, err);
  });
}

// Password managers are told which passkeys still exist and what they are called.
for (const el of all("[data-signal]")) {
  const { rpId, userId, name, displayName } = el.dataset;
  const ids = el.dataset.signal.split(" ").filter(Boolean);
  window.PublicKeyCredential?.signalAllAcceptedCredentials?.({ rpId, userId, allAcceptedCredentialIds: ids }).catch(() => {});
  window.PublicKeyCredential?.signalCurrentUserDetails?.({ rpId, userId, name, displayName }).catch(() => {});
}

for (const el of all("[data-copy]")) {
  if (!navigator.clipboard) break;
  const b = document.createElement("button");
  b.type = "button";
  b.className = "btn";
  b.textContent = "Copy";
  b.setAttribute("aria-label", `Copy ${el.dataset.copy}`);
  b.addEventListener("click", async () => {
    await navigator.clipboard.writeText($(el, "code").textContent);
    b.textContent = "Copied";
    setTimeout(() => (b.textContent = "Copy"), 2000);
  });
  el.append(b);
}

for (const el of all("[data-print]")) {
  const b = document.createElement("button");
  b.type = "button";
  b.className = "btn";
  b.textContent = "Print";
  b.addEventListener("click", () => print());
  el.append(b);
}

for (const t of all("time[datetime]")) {
  const at = new Date(t.dateTime);
  if (!Number.isNaN(at.valueOf())) t.title = at.toLocaleString(document.documentElement.lang || undefined, { dateStyle: "full", timeStyle: "long" });
}

// What goes back to an app by a form goes by itself.
for (const form of all("form[data-submit]")) form.submit();

// Time running out is said a minute before, with a way to have more (WCAG
// 2.2.1). Seconds left, not a time of day: the two clocks need not agree.
for (const el of all("[data-deadline]")) {
  const text = $(el, "[data-text]");
  const more = $(el, "[data-more]");
  const wait = (seconds) => {
    el.hidden = true;
    setTimeout(() => {
      el.hidden = false;
      text.textContent = "This page runs out in one minute.";
    }, Math.max(0, seconds - 60) * 1000);
  };
  more?.addEventListener("click", async () => {
    try {
      wait((await post(more.dataset.more, {})).expires_in);
    } catch (err) {
      text.textContent = err.title ?? "The time could not be extended.";
    }
  });
  wait(Number(el.dataset.deadline));
}

for (const el of all(".late")) el.remove();
