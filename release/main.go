// Command release builds what is given to others: both programs for each
// system, packed, with a list of what is in them and checksums. It builds a
// commit, not a working folder, and it builds it twice, in two folders and with
// two build caches; unless every file is the same bit by bit there is no
// release.
//
//	go run ./release                 the commit that is checked out, into dist/
//	go run ./release -targets linux/amd64 -shared-cache
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"time"
)

// allTargets are the systems that are released for.
const allTargets = "linux/amd64,linux/arm64,darwin/amd64,darwin/arm64,windows/amd64,windows/arm64"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	out := flag.String("out", "dist", "the folder that the release goes into; it is replaced")
	targets := flag.String("targets", allTargets, "systems, as GOOS/GOARCH")
	commit := flag.String("commit", "HEAD", "what is built")
	shared := flag.Bool("shared-cache", false, "let the second build use the first one's cache: quicker, and it shows less")
	flag.Parse()
	list, err := parseTargets(*targets)
	if err == nil && flag.NArg() > 0 {
		err = fmt.Errorf("unknown argument %q", flag.Arg(0))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(2)
	}
	r := &release{commit: *commit, targets: list, sharedCache: *shared, say: func(format string, args ...any) {
		fmt.Fprintf(os.Stderr, "release: "+format+"\n", args...)
	}}
	if err := r.make(ctx, *out); err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

// target is a system.
type target struct{ os, arch string }

func (t target) String() string { return t.os + "_" + t.arch }

func parseTargets(text string) (list []target, err error) {
	for _, one := range strings.Split(text, ",") {
		system, arch, ok := strings.Cut(one, "/")
		if !ok || system == "" || arch == "" {
			return nil, fmt.Errorf("a target is GOOS/GOARCH, not %q", one)
		}
		list = append(list, target{system, arch})
	}
	return list, nil
}

// release is one release in the making.
type release struct {
	commit      string
	targets     []target
	sharedCache bool
	say         func(format string, args ...any)
}

// make builds twice, compares, and puts the first one in its place.
func (r *release) make(ctx context.Context, out string) error {
	began := time.Now()
	work, err := os.MkdirTemp("", "release-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(work)
	// Whoever works on while this goes on does not change what is built.
	id, err := git(ctx, ".", "rev-parse", "--verify", r.commit+"^{commit}")
	if err != nil {
		return err
	}
	// Two folders that have neither name nor depth in common.
	first, second := filepath.Join(work, "a"), filepath.Join(work, "another", "place")
	cache := ""
	if !r.sharedCache {
		cache = filepath.Join(work, "cache")
	}
	r.say("building %s for %d systems", id, len(r.targets))
	a, err := r.build(ctx, id, first, "")
	if err != nil {
		return err
	}
	r.say("building it again elsewhere")
	b, err := r.build(ctx, id, second, cache)
	if err != nil {
		return err
	}
	if err := same(a, b); err != nil {
		return err
	}
	r.say("both builds are the same, bit by bit")
	if err := replace(a, out); err != nil {
		return err
	}
	sums, err := os.ReadFile(filepath.Join(out, sumsFile))
	if err != nil {
		return err
	}
	fmt.Print(string(sums))
	r.say("%s is ready, after %s", out, time.Since(began).Round(time.Second))
	return nil
}

// replace puts a folder in the place of another, whatever disk it is on.
func replace(from, to string) error {
	if err := os.RemoveAll(to); err != nil {
		return err
	}
	return os.CopyFS(to, os.DirFS(from))
}
