package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// programs are what is released.
var programs = []string{"countersign", "countersignd"}

// documents are packed beside the programs.
var documents = []string{"LICENSE", "README.md", "SECURITY.md", "docs/upgrade.md", "deploy/countersignd.service", "deploy/Containerfile"}

const sumsFile = "SHA256SUMS"

// source is a commit that is checked out by itself.
type source struct {
	dir     string
	version string // as the programs say it
	at      time.Time
	env     []string
}

// build checks the commit out into a folder of its own, builds and packs it
// there, and gives the folder with the release. cache is the build cache; "":
// the user's.
func (r *release) build(ctx context.Context, id, folder, cache string) (out string, err error) {
	src, err := checkout(ctx, filepath.Join(folder, "source"), id)
	if err != nil {
		return "", err
	}
	src.env = environment(cache)
	out = filepath.Join(folder, "dist")
	if err := os.MkdirAll(out, 0o755); err != nil {
		return "", err
	}
	for _, t := range r.targets {
		began := time.Now()
		built, err := src.compile(ctx, t, filepath.Join(folder, "bin", t.String()))
		if err != nil {
			return "", err
		}
		if err := src.pack(t, built, out); err != nil {
			return "", err
		}
		r.say("  %s %s, %s", src.version, t, time.Since(began).Round(100*time.Millisecond))
	}
	return out, sums(out)
}

// checkout clones the repository at a commit. The clone has the tags, so that
// the programs know their version, and nothing that is not committed.
func checkout(ctx context.Context, dir, id string) (*source, error) {
	root, err := git(ctx, ".", "rev-parse", "--show-toplevel")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, args := range [][]string{{"init", "-q"}, {"fetch", "-q", "--no-recurse-submodules", "--tags", root, id}, {"-c", "core.autocrlf=false", "checkout", "-q", "--detach", id}} {
		if _, err := git(ctx, dir, args...); err != nil {
			return nil, err
		}
	}
	stamp, err := git(ctx, dir, "show", "-s", "--format=%ct", id)
	if err != nil {
		return nil, err
	}
	seconds, err := strconv.ParseInt(stamp, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("the time of %s: %w", id, err)
	}
	return &source{dir: dir, at: time.Unix(seconds, 0).UTC()}, nil
}

func git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("git %s: %w: %s", args[0], err, strings.TrimSpace(errs.String()))
	}
	return strings.TrimSpace(string(out)), nil
}

// environment is this process's without what would change a build.
func environment(cache string) (env []string) {
	for _, v := range os.Environ() {
		name, _, _ := strings.Cut(v, "=")
		switch name {
		case "GOFLAGS", "GOOS", "GOARCH", "GOAMD64", "GOARM64", "GOEXPERIMENT", "GODEBUG", "GOWORK", "GOFIPS140", "CGO_ENABLED", "GOCACHEPROG", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE":
			continue
		}
		env = append(env, v)
	}
	env = append(env, "CGO_ENABLED=0", "GOWORK=off", "GOENV=off", "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=-mod=readonly")
	if cache != "" {
		env = append(env, "GOCACHE="+cache)
	}
	return env
}

// settings are the flags of a build. The paths of the folder are not in it, and
// of the repository only the commit, its time and its tag are.
var settings = []string{"-trimpath", "-buildvcs=true", "-ldflags=-s -w -buildid="}

// compile builds the programs for a system and gives their paths.
func (s *source) compile(ctx context.Context, t target, dir string) (paths []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	for _, name := range programs {
		path := filepath.Join(dir, name)
		if t.os == "windows" {
			path += ".exe"
		}
		args := append(append([]string{"build"}, settings...), "-o", path, "./cmd/"+name)
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = s.dir
		cmd.Env = append(slices.Clone(s.env), "GOOS="+t.os, "GOARCH="+t.arch)
		if said, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("build %s for %s: %w\n%s", name, t, err, said)
		}
		paths = append(paths, path)
	}
	return paths, nil
}

// pack writes the archive of a system and the list of what is in it.
func (s *source) pack(t target, built []string, out string) error {
	list, err := s.describe(t, built)
	if err != nil {
		return err
	}
	s.version = list.Metadata.Component.Version
	name := fmt.Sprintf("countersign_%s_%s", strings.TrimPrefix(s.version, "v"), t)
	bom, err := list.encode()
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(out, name+".cdx.json"), bom, 0o644); err != nil {
		return err
	}
	var items []item
	for _, path := range built {
		items = append(items, item{filepath.Base(path), path, 0o755})
	}
	for _, path := range documents {
		items = append(items, item{filepath.Base(path), filepath.Join(s.dir, path), 0o644})
	}
	if t.os == "windows" {
		return zipped(filepath.Join(out, name+".zip"), name, items, s.at)
	}
	return tarred(filepath.Join(out, name+".tar.gz"), name, items, s.at)
}

// sums writes the checksums, in the form that sha256sum -c reads.
func sums(dir string) error {
	all, err := digests(dir)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&b, "%x  %s\n", all[name], name)
	}
	return os.WriteFile(filepath.Join(dir, sumsFile), []byte(b.String()), 0o644)
}

// digests are the hashes of the files of a folder.
func digests(dir string) (map[string][sha256.Size]byte, error) {
	all := map[string][sha256.Size]byte{}
	return all, fs.WalkDir(os.DirFS(dir), ".", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		b, err := os.ReadFile(filepath.Join(dir, path))
		all[path] = sha256.Sum256(b)
		return err
	})
}

// same refuses two folders of which not every file is the same.
func same(a, b string) error {
	first, err := digests(a)
	if err != nil {
		return err
	}
	second, err := digests(b)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(first)) {
		if first[name] != second[name] {
			errs = append(errs, fmt.Errorf("%s differs between the two builds", name))
		}
		delete(second, name)
	}
	for _, name := range slices.Sorted(maps.Keys(second)) {
		errs = append(errs, fmt.Errorf("only the second build has %s", name))
	}
	if len(first) == 0 {
		errs = append(errs, errors.New("nothing was built"))
	}
	return errors.Join(errs...)
}
