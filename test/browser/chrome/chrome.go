// Package chrome drives a real Chromium for the browser tests: pages, virtual
// authenticators, screenshots, accessibility checks, and what the console said.
// It knows nothing of the product's pages. Every wait polls for its condition
// under one time limit, and every failure names the page and what it shows.
//
// One Chromium serves all tests of a process; each New opens a profile of its
// own in it, with its own cookies. The browser reaches nothing but this
// machine. Without Chromium a test is skipped with the reason; with CI=true or
// COUNTERSIGN_REQUIRE_BROWSER=1 it fails instead. COUNTERSIGN_CHROMIUM names
// another program to run.
package chrome

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/countersign-dev/countersign/test/internal/scratch"
)

// Limit is how long each step may take before the test fails.
const Limit = time.Minute

var running struct {
	sync.Mutex
	ctx     context.Context // the browser's; nil before the first use
	stop    func()
	failure error
	trusted []string // base64 of SHA-256 of public keys
}

// Trust makes the browser of this process take the certificate for good, as
// that of an authority which the machine knows. It goes before the first New.
func Trust(cert *x509.Certificate) {
	running.Lock()
	defer running.Unlock()
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	running.trusted = append(running.trusted, base64.StdEncoding.EncodeToString(sum[:]))
}

// Locate returns the Chromium to run.
func Locate() (path string, err error) {
	names := []string{"chromium", "chromium-browser", "google-chrome", "google-chrome-stable"}
	if name := os.Getenv("COUNTERSIGN_CHROMIUM"); name != "" {
		names = []string{name}
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", errors.New("no Chromium is installed")
}

// Require skips the test, or fails it where a browser is required, when there
// is none on this machine.
func Require(t testing.TB) {
	t.Helper()
	if _, err := Locate(); err != nil {
		if Required() {
			t.Fatalf("chrome: %v", err)
		}
		t.Skipf("chrome: %v; make test installs it", err)
	}
}

// Required reports whether a missing browser is a failure.
func Required() bool {
	return os.Getenv("COUNTERSIGN_REQUIRE_BROWSER") != "" || os.Getenv("CI") == "true"
}

// Run is for TestMain: os.Exit(chrome.Run(m)). It runs the tests and then ends
// the browser that they started.
func Run(m interface{ Run() int }) (code int) {
	defer Stop()
	return m.Run()
}

// Stop ends the browser of this process, if one was started.
func Stop() {
	running.Lock()
	defer running.Unlock()
	if running.stop != nil {
		running.stop()
	}
	running.ctx, running.stop, running.failure = nil, nil, nil
}

// launch starts Chromium or returns the one that runs.
func launch() (context.Context, error) {
	running.Lock()
	defer running.Unlock()
	if running.ctx != nil || running.failure != nil {
		return running.ctx, running.failure
	}
	running.ctx, running.stop, running.failure = start()
	return running.ctx, running.failure
}

func start() (context.Context, func(), error) {
	path, err := Locate()
	if err != nil {
		return nil, nil, err
	}
	dir, remove, err := scratch.Dir("chrome")
	if err != nil {
		return nil, nil, err
	}
	options := append([]chromedp.ExecAllocatorOption{}, chromedp.DefaultExecAllocatorOptions[:]...)
	options = append(options,
		chromedp.ExecPath(path),
		chromedp.UserDataDir(dir),
		chromedp.WindowSize(1280, 900),
		chromedp.Flag("disable-quic", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("no-proxy-server", true),
		chromedp.Flag("lang", "en-US"),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND , EXCLUDE localhost , EXCLUDE *.localhost , EXCLUDE 127.0.0.1 , EXCLUDE [::1] , EXCLUDE ::1"),
	)
	if len(running.trusted) > 0 {
		options = append(options, chromedp.Flag("ignore-certificate-errors-spki-list", strings.Join(running.trusted, ",")))
	}
	if os.Geteuid() == 0 || inContainer() {
		options = append(options, chromedp.NoSandbox) // its sandbox needs what neither has
	}
	allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, cancel := chromedp.NewContext(allocator)
	stop := func() {
		cancel()
		cancelAllocator()
		remove()
	}
	// Do starts the browser, whose life is that of the context given here: a
	// limit of our own must not be part of it.
	began := make(chan error, 1)
	go func() { began <- chromedp.Do(ctx) }()
	select {
	case err = <-began:
	case <-time.After(60 * time.Second):
		err = errors.New("no answer in a minute")
	}
	if err != nil {
		stop()
		return nil, nil, fmt.Errorf("start Chromium: %w", err)
	}
	return ctx, stop, nil
}

// inContainer reports whether the files that container engines leave are there.
func inContainer() bool {
	for _, mark := range []string{"/.dockerenv", "/run/.containerenv"} {
		if _, err := os.Stat(mark); err == nil {
			return true
		}
	}
	return false
}

// Browser is one profile with its own cookies and storage, as a separate
// person's browser would have. The embedded Page is its first page.
type Browser struct {
	*Page
	ctx context.Context
}

// New opens a fresh profile and a blank page in it. Both are closed when the
// test ends, which then fails for every console error that was not allowed.
func New(t testing.TB) *Browser {
	t.Helper()
	Require(t)
	parent, err := launch()
	if err != nil {
		t.Fatalf("chrome: %v", err)
	}
	p := open(t, parent, chromedp.WithNewBrowserContext())
	return &Browser{Page: p, ctx: p.ctx}
}

// NewPage opens another page of the same profile. Virtual authenticators belong
// to a page: move one with Authenticator.MoveTo.
func (b *Browser) NewPage() *Page {
	b.t.Helper()
	return open(b.t, b.ctx)
}

// Opened runs the trigger and returns the page that it opened in a new tab.
func (b *Browser) Opened(trigger func()) *Page {
	b.t.Helper()
	id := waitNew(b.ctx)
	trigger()
	select {
	case target := <-id:
		if target == "" {
			b.t.Fatal("chrome: the page closed before it opened another")
		}
		return open(b.t, b.ctx, chromedp.WithTargetID(target))
	case <-time.After(Limit):
		b.fail("no new tab was opened", nil)
		return nil
	}
}
