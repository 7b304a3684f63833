package process

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// MarkEnv marks every process that the environment started, and their children, with a value that nothing else has.
const MarkEnv = "ATLAS_DEVENV_MARK"

// Spec says how to start a background process.
type Spec struct {
	// Name is unique within the state: it names the pid file and the log.
	Name string
	// Path is the program; a name without a slash is looked up in PATH.
	Path string
	Args []string
	// Env is the whole environment; nil means this process's own.
	Env []string
	// Dir is the working directory; empty means the state's folder.
	Dir string
	// Credential is the user to run as; nil means the caller.
	Credential *syscall.Credential
	// ExtraFiles become descriptors 3, 4 …; at most six.
	ExtraFiles []*os.File
	// SysProcAttr is the base of the attributes, for namespaces and the like; Setsid and Credential are set on a copy of it.
	SysProcAttr *syscall.SysProcAttr
	// StopSignal asks the process to end; zero means SIGTERM.
	StopSignal syscall.Signal
	// StopGrace is how long it may take before it is killed; zero means 10 s.
	StopGrace time.Duration
	// Address is shown by `status`.
	Address string
}

// gate holds the new process back until its pid is on disk: it reads one line from the descriptor and then becomes the
// program, with the same pid and start time. When the starter dies before, the read fails and the process ends, so there
// is no moment in which a process runs that no pid file names.
const gate = `IFS= read -r go <&%[1]d || exit 125; exec %[1]d<&-; exec "$@"`

// Start starts a process detached from the caller, with its own session and log file, and records it. Call it with the
// state's lock held. When a process of this name is alive already, it is an error.
func (s *State) Start(spec Spec) (*Process, error) {
	if p, ok := s.Find(spec.Name); ok {
		return nil, fmt.Errorf("start %s: already running (pid %d)", spec.Name, p.PID)
	}
	if err := s.Create(); err != nil {
		return nil, err
	}
	path, err := exec.LookPath(spec.Path)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	if len(spec.ExtraFiles) > 6 {
		return nil, fmt.Errorf("start %s: more than six extra files", spec.Name)
	}
	log, err := s.openLog(spec.Name, spec.Credential)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	gateOut, gateIn, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	defer gateOut.Close()
	defer gateIn.Close()

	token := s.ID() + "/" + spec.Name + "/" + rand.Text()
	cmd := exec.Command("/bin/sh", append([]string{"-c", fmt.Sprintf(gate, 3+len(spec.ExtraFiles)), spec.Name, path}, spec.Args...)...)
	cmd.Env = append(withoutToken(spec.Env), MarkEnv+"="+token)
	cmd.Dir = spec.Dir
	if cmd.Dir == "" {
		cmd.Dir = s.Dir
	}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = append(append([]*os.File{}, spec.ExtraFiles...), gateOut)
	cmd.SysProcAttr = attributes(spec)
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	p := &Process{
		state: s, Name: spec.Name, PID: cmd.Process.Pid, Token: token, Address: spec.Address,
		StartedAt: time.Now(), StopSignal: spec.StopSignal, StopGrace: spec.StopGrace, exited: make(chan struct{}),
	}
	go func() {
		// Reaps the child, so that it doesn't stay a zombie when the caller is long-lived, such as a test.
		_ = cmd.Wait()
		close(p.exited)
	}()
	if err := p.record(); err != nil {
		return nil, errors.Join(fmt.Errorf("start %s: %w", spec.Name, err), cmd.Process.Kill())
	}
	if _, err := gateIn.WriteString("go\n"); err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Name, err)
	}
	return p, nil
}

// Adopt records pid, a process that the process called name has left in its place, under the same name: for programs
// that insist on going to the background themselves. It must carry the token of the process that started it.
func (s *State) Adopt(name string, pid int) (*Process, error) {
	p, err := s.read(name)
	if err != nil {
		return nil, err
	}
	if !hasToken(pid, p.Token) {
		return nil, fmt.Errorf("adopt pid %d as %s: it was not started by it", pid, name)
	}
	p.PID = pid
	if err := p.record(); err != nil {
		return nil, fmt.Errorf("adopt pid %d as %s: %w", pid, name, err)
	}
	return p, nil
}

func attributes(spec Spec) *syscall.SysProcAttr {
	attr := syscall.SysProcAttr{}
	if spec.SysProcAttr != nil {
		attr = *spec.SysProcAttr
	}
	attr.Setsid = true
	if spec.Credential != nil {
		attr.Credential = spec.Credential
	}
	return &attr
}

func withoutToken(env []string) []string {
	if env == nil {
		env = os.Environ()
	}
	out := make([]string, 0, len(env)+1)
	for _, v := range env {
		if !strings.HasPrefix(v, MarkEnv+"=") {
			out = append(out, v)
		}
	}
	return out
}

// openLog gives the log to the user that the process runs as, so that the process may open it again by name.
func (s *State) openLog(name string, owner *syscall.Credential) (*os.File, error) {
	path := s.LogPath(name)
	if info, err := os.Stat(path); err == nil && info.Size() > maxLog {
		if err := os.Rename(path, path+".1"); err != nil {
			return nil, fmt.Errorf("rotate log of %s: %w", name, err)
		}
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log of %s: %w", name, err)
	}
	if owner != nil {
		if err := f.Chown(int(owner.Uid), int(owner.Gid)); err != nil {
			f.Close()
			return nil, fmt.Errorf("open log of %s: %w", name, err)
		}
	}
	return f, nil
}

func pidString(pid int) string { return strconv.Itoa(pid) }

func procPath(pid int, name string) string { return filepath.Join("/proc", pidString(pid), name) }
