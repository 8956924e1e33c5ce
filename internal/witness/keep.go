package witness

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/countersign-dev/countersign/internal/file"
)

// Keeper keeps checkpoints where the server's host cannot take them back. Nobody but
// the caller writes there; what is there is not trusted: the caller verifies it, and
// never keeps one that does not extend it.
type Keeper interface {
	// Name says in words where it keeps them.
	Name() string
	// Last MUST give the newest one kept of a log, nil if there is none.
	Last(ctx context.Context, origin string) ([]byte, error)
	// Keep MUST keep a checkpoint as the newest one, durably.
	Keep(ctx context.Context, origin string, checkpoint []byte) error
}

// File keeps the newest checkpoint in a file, on another machine's disk.
type File struct{ Path string }

// Name implements Keeper.
func (f File) Name() string { return f.Path }

// Last implements Keeper.
func (f File) Last(context.Context, string) ([]byte, error) {
	b, err := os.ReadFile(f.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return b, err
}

// Keep implements Keeper.
func (f File) Keep(_ context.Context, _ string, checkpoint []byte) error {
	return file.Replace(f.Path, checkpoint, 0o644)
}

// Git keeps checkpoints as commits on a branch of a git remote, a file for each log,
// and never rewrites it: a remote that refuses what is no fast-forward keeps the
// history even from who holds this host. It runs the git program.
type Git struct {
	Remote string // as git has it
	Dir    string // a bare repository of its own, made when needed
	Branch string // "": checkpoints
}

// Name implements Keeper.
func (g Git) Name() string {
	if u, err := url.Parse(g.Remote); err == nil && u.User != nil {
		return "git " + u.Redacted()
	}
	return "git " + g.Remote
}

func (g Git) branch() string {
	if g.Branch == "" {
		return "checkpoints"
	}
	return g.Branch
}

// gitTime is how long one git command may take.
const gitTime = 30 * time.Second

// run runs git in the repository. Nothing is asked for on a terminal, no helper of
// another protocol is started, and no configuration but the user's is used.
func (g Git) run(ctx context.Context, in []byte, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, gitTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, "git", append([]string{"--git-dir=" + g.Dir}, args...)...)
	cmd.Stdin = bytes.NewReader(in)
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(),
		"GIT_TERMINAL_PROMPT=0", "GIT_ALLOW_PROTOCOL=file:git:http:https:ssh", "GIT_SSH_COMMAND=ssh -o BatchMode=yes",
		"GIT_AUTHOR_NAME=countersignd", "GIT_AUTHOR_EMAIL=countersignd@localhost",
		"GIT_COMMITTER_NAME=countersignd", "GIT_COMMITTER_EMAIL=countersignd@localhost", "LC_ALL=C",
	)
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("git %s: %w: %.300s", args[0], err, strings.TrimSpace(errs.String()))
	}
	return bytes.TrimSuffix(out, []byte("\n")), nil
}

// fetch gives the commit that the remote's branch is at, "" if it has no such branch.
func (g Git) fetch(ctx context.Context) (string, error) {
	if strings.HasPrefix(g.Remote, "-") || g.Remote == "" {
		return "", errors.New("git: the remote is not one")
	}
	if _, err := os.Stat(filepath.Join(g.Dir, "HEAD")); errors.Is(err, fs.ErrNotExist) {
		if _, err := g.run(ctx, nil, "init", "--quiet", "--bare"); err != nil {
			return "", err
		}
	}
	ref := "refs/heads/" + g.branch()
	out, err := g.run(ctx, nil, "ls-remote", "--", g.Remote, ref)
	if err != nil || len(out) == 0 {
		return "", err
	}
	if _, err := g.run(ctx, nil, "fetch", "--quiet", "--no-tags", "--", g.Remote, "+"+ref+":refs/remotes/kept"); err != nil {
		return "", err
	}
	out, err = g.run(ctx, nil, "rev-parse", "--verify", "refs/remotes/kept^{commit}")
	return string(out), err
}

// Last implements Keeper.
func (g Git) Last(ctx context.Context, origin string) ([]byte, error) {
	at, err := g.fetch(ctx)
	if err != nil || at == "" {
		return nil, err
	}
	out, err := g.run(ctx, nil, "ls-tree", at, "--", fileName(origin))
	if err != nil || len(out) == 0 {
		return nil, err
	}
	out, err = g.run(ctx, nil, "cat-file", "blob", at+":"+fileName(origin))
	if err != nil {
		return nil, err
	}
	return append(out, '\n'), nil // a note ends with one
}

// Keep implements Keeper.
func (g Git) Keep(ctx context.Context, origin string, checkpoint []byte) error {
	at, err := g.fetch(ctx)
	if err != nil {
		return err
	}
	blob, err := g.run(ctx, checkpoint, "hash-object", "-w", "--stdin")
	if err != nil {
		return err
	}
	var tree []byte
	if at != "" {
		if tree, err = g.run(ctx, nil, "ls-tree", at); err != nil {
			return err
		}
	}
	name := fileName(origin)
	var lines []string
	for line := range strings.SplitSeq(string(tree), "\n") {
		if line != "" && !strings.HasSuffix(line, "\t"+name) {
			lines = append(lines, line)
		}
	}
	lines = append(lines, "100644 blob "+string(blob)+"\t"+name)
	id, err := g.run(ctx, []byte(strings.Join(lines, "\n")+"\n"), "mktree")
	if err != nil {
		return err
	}
	args := []string{"commit-tree", string(id), "-m", origin}
	if at != "" {
		args = append(args, "-p", at)
	}
	commit, err := g.run(ctx, nil, args...)
	if err != nil {
		return err
	}
	_, err = g.run(ctx, nil, "push", "--quiet", "--", g.Remote, string(commit)+":refs/heads/"+g.branch())
	return err
}
