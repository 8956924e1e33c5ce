package chrome

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/target"
	"github.com/chromedp/chromedp"
)

// pollEvery is the pause between two looks at a condition.
const pollEvery = 20 * time.Millisecond

// Page is one tab. Its methods fail the test when they cannot do what they say
// within Limit; they belong to the test's own goroutine.
type Page struct {
	t   testing.TB
	ctx context.Context

	console struct {
		sync.Mutex
		errors  []string
		allowed []string
		done    chan struct{}
	}
}

// open makes a tab below parent and watches its console.
func open(t testing.TB, parent context.Context, options ...chromedp.ContextOption) *Page {
	t.Helper()
	ctx, cancel := chromedp.NewContext(parent, options...)
	p := &Page{t: t, ctx: ctx}
	p.console.done = make(chan struct{})
	messages := chromedp.Console(ctx)
	if err := chromedp.Do(ctx); err != nil {
		cancel()
		t.Fatalf("chrome: open a page: %v", err)
	}
	go func() {
		defer close(p.console.done)
		for m, err := range messages {
			if err != nil {
				return
			}
			if m.Type == chromedp.ConsoleError || m.IsException() {
				p.console.Lock()
				p.console.errors = append(p.console.errors, strings.TrimSpace(m.Text+" "+m.URL))
				p.console.Unlock()
			}
		}
	}()
	t.Cleanup(func() {
		if t.Failed() {
			p.Screenshot("failed", Look{})
		}
		for _, e := range p.ConsoleErrors() {
			t.Errorf("chrome: the page's console says: %s", e)
		}
		cancel()
		<-p.console.done
	})
	return p
}

// waitNew yields the next tab that the page of ctx opens.
func waitNew(ctx context.Context) <-chan target.ID {
	return chromedp.WaitNewTarget(ctx, func(info *target.Info) bool { return info.Type == "page" })
}

// step runs one action within Limit.
func step[T any](p *Page, what string, action chromedp.Action[T]) T {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, Limit)
	defer cancel()
	v, err := chromedp.Run(ctx, action)
	if err != nil {
		p.fail(what, err)
	}
	return v
}

// call sends one command of the browser's protocol.
func call[P, R any](p *Page, what string, command cdp.Command[P, R], params P) R {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, Limit)
	defer cancel()
	v, err := chromedp.Call(ctx, command, params)
	if err != nil {
		p.fail(what, err)
	}
	return v
}

// fail ends the test with what the page shows.
func (p *Page) fail(what string, err error) {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.ctx, 2*time.Second)
	defer cancel()
	shown, _ := chromedp.Run(ctx, chromedp.Evaluate[string](`location.href + "\n" + (document.body ? document.body.innerText : "")`))
	if len(shown) > 2000 {
		shown = shown[:2000] + "…"
	}
	if err != nil {
		what += ": " + err.Error()
	}
	p.t.Fatalf("chrome: %s\nthe page shows: %s", what, shown)
}

// Navigate loads the address and waits for its load event. A status such as
// 404 is an answer like others if it has a body; see Status.
func (p *Page) Navigate(url string) {
	p.t.Helper()
	step(p, "navigate to "+url, chromedp.Navigate(url))
}

// Status loads the address and returns the status and headers of the answer,
// after redirects.
func (p *Page) Status(url string) (status int, header map[string]string) {
	p.t.Helper()
	r := step(p, "navigate to "+url, chromedp.NavigateResponse(url))
	if r == nil {
		p.fail("navigate to "+url, errors.New("no answer"))
	}
	header = map[string]string{}
	for name, value := range r.Headers {
		header[strings.ToLower(name)] = fmt.Sprint(value)
	}
	return int(r.Status), header
}

// SetScript lets pages run scripts, or not: what they look like and do for
// somebody without. The test's own expressions run either way.
func (p *Page) SetScript(on bool) {
	p.t.Helper()
	call(p, "switch scripts", emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
}

// Reload loads the page anew.
func (p *Page) Reload() {
	p.t.Helper()
	step(p, "reload", chromedp.Reload())
}

// Click clicks the first element that the CSS selector matches, once it is
// visible and takes a tap, as a person would: scrolled to, at its middle.
func (p *Page) Click(selector string) {
	p.t.Helper()
	p.Wait(selector+" that takes a tap", `(e => e && e.checkVisibility() && getComputedStyle(e).pointerEvents !== 'none')(document.querySelector(%s))`, quote(selector))
	step(p, "click "+selector, chromedp.Click(chromedp.CSS(selector), chromedp.NodeVisible))
}

// ClickText clicks the visible link or button whose text or accessible label
// is exactly this, once there is one.
func (p *Page) ClickText(text string) {
	p.t.Helper()
	const mark = "data-chrome-click"
	p.Wait(fmt.Sprintf("a link or button %q", text), `(() => {
		for (const e of document.querySelectorAll('[%[2]s]')) e.removeAttribute('%[2]s')
		const e = [...document.querySelectorAll('a, button, summary, input[type=submit], [role=button], [role=menuitem]')]
			.find(e => e.checkVisibility() && !e.disabled && (e.innerText || e.value || e.ariaLabel || '').trim() === %[1]s)
		if (!e) return false
		e.setAttribute('%[2]s', '')
		return true
	})()`, quote(text), mark)
	p.Click("[" + mark + "]")
}

// Fill empties the field and types the text into it.
func (p *Page) Fill(selector, text string) {
	p.t.Helper()
	sel := chromedp.CSS(selector)
	step(p, "empty "+selector, chromedp.Steps(
		chromedp.WaitVisible(sel), chromedp.Focus(sel),
		chromedp.Evaluate[chromedp.Void](`document.activeElement.select && document.activeElement.select()`),
		chromedp.KeyEvent("\b"),
	))
	if text != "" {
		step(p, "fill "+selector, chromedp.SendKeys(sel, text))
	}
}

// Press types keys at the focus: text, "\t", "\r", or a key of package kb.
func (p *Page) Press(keys string) {
	p.t.Helper()
	step(p, "press keys", chromedp.KeyEvent(keys))
}

// Text returns the visible text of the first element that the selector
// matches, once there is one.
func (p *Page) Text(selector string) string {
	p.t.Helper()
	return strings.TrimSpace(step(p, "read "+selector, chromedp.Text(chromedp.CSS(selector), chromedp.NodeVisible)))
}

// Value returns what stands in a form field.
func (p *Page) Value(selector string) string {
	p.t.Helper()
	return step(p, "read the value of "+selector, chromedp.Value(chromedp.CSS(selector)))
}

// Has reports whether a visible element matches the selector now.
func (p *Page) Has(selector string) bool {
	p.t.Helper()
	return Eval[bool](p, fmt.Sprintf(`[...document.querySelectorAll(%s)].some(e => e.checkVisibility())`, quote(selector)))
}

// URL returns the address of the page now.
func (p *Page) URL() string {
	p.t.Helper()
	return step(p, "read the address", chromedp.Location())
}

// WaitVisible waits for a visible element that the selector matches.
func (p *Page) WaitVisible(selector string) {
	p.t.Helper()
	p.Wait("a visible "+selector, `[...document.querySelectorAll(%s)].some(e => e.checkVisibility())`, quote(selector))
}

// WaitGone waits until no visible element matches the selector.
func (p *Page) WaitGone(selector string) {
	p.t.Helper()
	p.Wait("no "+selector, `![...document.querySelectorAll(%s)].some(e => e.checkVisibility())`, quote(selector))
}

// WaitText waits until the page's visible text contains this. White space
// counts as one space.
func (p *Page) WaitText(text string) {
	p.t.Helper()
	p.Wait(fmt.Sprintf("the text %q", text), `document.body && document.body.innerText.replace(/\s+/g, ' ').includes(%s)`,
		quote(strings.Join(strings.Fields(text), " ")))
}

// WaitURL waits until the page is loaded and its address contains this.
func (p *Page) WaitURL(part string) {
	p.t.Helper()
	p.Wait("an address with "+part, `document.readyState === 'complete' && location.href.includes(%s)`, quote(part))
}

// Wait polls until the JavaScript expression, made of format and args, is
// true. A page that is just being replaced is simply looked at again.
func (p *Page) Wait(what, format string, args ...any) {
	p.t.Helper()
	expression := "!!(" + fmt.Sprintf(format, args...) + ")"
	ctx, cancel := context.WithTimeout(p.ctx, Limit)
	defer cancel()
	var last error
	for {
		ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool](expression))
		if ok && err == nil {
			return
		}
		// A navigation under way makes an evaluation fail; a real fault in
		// the expression fails until the limit, and is then told.
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			p.fail("waited in vain for "+what, last)
		case <-time.After(pollEvery):
		}
	}
}

// Eval returns the value of a JavaScript expression; a promise is awaited.
func Eval[T any](p *Page, expression string) T {
	p.t.Helper()
	return step(p, "evaluate "+expression, chromedp.Evaluate[T](expression, chromedp.EvalAwaitPromise))
}

// SetHeaders sends these headers with every request of the page from now on.
func (p *Page) SetHeaders(header map[string]string) {
	p.t.Helper()
	h := network.Headers{}
	for name, value := range header {
		h[name] = value
	}
	call(p, "watch the network", network.Enable, network.EnableParams{})
	call(p, "set headers", network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{Headers: h})
}

// Scripts turns the scripts of the pages that are opened from now on off or on,
// as somebody's browser settings do.
func (p *Page) Scripts(on bool) {
	p.t.Helper()
	call(p, "turn scripts on or off", emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: !on})
}

// AllowConsole says that console errors with this in them are expected, such
// as "status of 403" after a refusal that the test wants.
func (p *Page) AllowConsole(part string) {
	p.console.Lock()
	defer p.console.Unlock()
	p.console.allowed = append(p.console.allowed, part)
}

// ConsoleErrors returns the errors so far that were not allowed: calls of
// console.error, uncaught exceptions, and the browser's own, such as breaches
// of the content security policy.
func (p *Page) ConsoleErrors() (unexpected []string) {
	p.console.Lock()
	defer p.console.Unlock()
next:
	for _, e := range p.console.errors {
		for _, part := range p.console.allowed {
			if strings.Contains(e, part) {
				continue next
			}
		}
		unexpected = append(unexpected, e)
	}
	return unexpected
}

// ConsoleCount is how many errors of the console so far have this in them, allowed
// ones included.
func (p *Page) ConsoleCount(part string) (n int) {
	p.console.Lock()
	defer p.console.Unlock()
	for _, e := range p.console.errors {
		if strings.Contains(e, part) {
			n++
		}
	}
	return n
}

// WaitConsole waits until n errors of the console have this in them: for what a page
// shows in no other way.
func (p *Page) WaitConsole(part string, n int) {
	p.t.Helper()
	for deadline := time.Now().Add(Limit); p.ConsoleCount(part) < n; time.Sleep(pollEvery) {
		if time.Now().After(deadline) {
			p.t.Fatalf("chrome: %d of %d console errors have %q in them", p.ConsoleCount(part), n, part)
		}
	}
}

// Close closes the tab.
func (p *Page) Close() { chromedp.Cancel(p.ctx) }

// quote writes a string as JavaScript.
func quote(s string) string {
	b, _ := json.Marshal(s)
	return string(b)
}
