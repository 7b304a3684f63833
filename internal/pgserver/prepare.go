package pgserver

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// User is the superuser that every server has.
const User = "atlas"

// Config says which server to run.
type Config struct {
	// DataDir holds everything of the server: data, password, port. It is created on the first start.
	DataDir string
	// Port on 127.0.0.1; 0 means the one of last time when it is free, else any free one.
	Port int
	// Database is created when it isn't there; empty means "atlas".
	Database string
	// LogFile gets the server's output; empty means postgres.log in DataDir.
	LogFile string
	// CacheDir keeps the downloaded bundle; empty means the user's cache folder.
	CacheDir string
	// FastUnsafe trades the safety of data in a crash of the machine for speed: for tests.
	FastUnsafe bool
	// Settings are further server settings, such as max_connections.
	Settings map[string]string
	// Progress is told what takes long; may be nil.
	Progress func(doing string)
}

// Prepared is a server that is ready to be started.
type Prepared struct {
	Path       string
	Args       []string
	Env        []string
	Dir        string
	Credential *syscall.Credential
	Port       int
	// URL reaches the database, with the password: don't log it.
	URL string

	database string
}

// StopSignal makes a server disconnect its clients and shut down cleanly.
const StopSignal = syscall.SIGINT

// Prepare creates what the server needs and is not there yet, ends what a killed owner left running in the data folder,
// and returns the command that runs the server. Only one caller at a time may do so for a data folder.
func Prepare(ctx context.Context, cfg Config) (*Prepared, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	account, err := Unprivileged("postgres", "nobody")
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.DataDir, 0o755); err != nil {
		return nil, fmt.Errorf("create data folder: %w", err)
	}
	if err := account.CanTraverse(cfg.DataDir); err != nil {
		return nil, err
	}
	data := filepath.Join(cfg.DataDir, "pgdata")
	major, err := dataMajor(data)
	if err != nil {
		return nil, err
	}
	programs, err := findPrograms(ctx, account, cfg.CacheDir, major, cfg.Progress)
	if err != nil {
		return nil, err
	}
	password, err := cfg.password(account)
	if err != nil {
		return nil, err
	}
	if major == 0 {
		cfg.Progress("creating the data folder")
		if err := initialise(ctx, programs, account, cfg, data); err != nil {
			return nil, err
		}
	}
	if err := endOrphans(ctx, data); err != nil {
		return nil, err
	}
	port, err := cfg.choosePort(ctx)
	if err != nil {
		return nil, err
	}
	return &Prepared{
		Path: programs.path("postgres"), Args: serverArgs(cfg, data, port), Env: environment(), Dir: cfg.DataDir,
		Credential: account.Credential(), Port: port, URL: databaseURL(password, port, cfg.Database), database: cfg.Database,
	}, nil
}

// Attach describes a server that runs already, on cfg.Port, without touching it.
func Attach(cfg Config) (*Prepared, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	password, err := os.ReadFile(filepath.Join(cfg.DataDir, "password"))
	if err != nil {
		return nil, fmt.Errorf("read password: %w", err)
	}
	return &Prepared{Port: cfg.Port, URL: databaseURL(string(password), cfg.Port, cfg.Database), database: cfg.Database}, nil
}

func (cfg Config) withDefaults() (Config, error) {
	if cfg.DataDir == "" {
		return cfg, errors.New("no data folder given")
	}
	var err error
	if cfg.DataDir, err = filepath.Abs(cfg.DataDir); err != nil {
		return cfg, fmt.Errorf("data folder: %w", err)
	}
	if cfg.Database == "" {
		cfg.Database = "atlas"
	}
	if cfg.LogFile == "" {
		cfg.LogFile = filepath.Join(cfg.DataDir, "postgres.log")
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string) {}
	}
	if cfg.CacheDir == "" {
		if cfg.CacheDir, err = defaultCache(); err != nil {
			return cfg, err
		}
	}
	return cfg, nil
}

func defaultCache() (string, error) {
	if os.Geteuid() == 0 { // root's own cache folder is closed to the user that runs the server
		return "/var/cache/atlas", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("cache folder: %w", err)
	}
	return filepath.Join(dir, "atlas"), nil
}

// password returns the superuser's password, which is made up on the first start.
func (cfg Config) password(account *Account) (string, error) {
	path := filepath.Join(cfg.DataDir, "password")
	content, err := os.ReadFile(path)
	if err == nil && len(content) > 0 {
		return string(content), nil
	}
	if err != nil && !os.IsNotExist(err) {
		return "", fmt.Errorf("read password: %w", err)
	}
	password := rand.Text()
	if err := os.WriteFile(path, []byte(password), 0o600); err != nil {
		return "", fmt.Errorf("write password: %w", err)
	}
	return password, account.Own(path) // initdb reads it
}

// initialise makes the data folder under another name and renames it, so that an interrupted one is made anew.
func initialise(ctx context.Context, programs programs, account *Account, cfg Config, data string) error {
	tmp := data + ".new"
	var err error
	for _, ctype := range []string{"C.UTF-8", "en_US.UTF-8", "C"} { // full-text search needs to know letters beyond ASCII
		if err = os.RemoveAll(tmp); err != nil {
			return fmt.Errorf("create data folder: %w", err)
		}
		if err = os.Mkdir(tmp, 0o700); err != nil {
			return fmt.Errorf("create data folder: %w", err)
		}
		if err = account.Own(tmp); err != nil {
			return err
		}
		args := []string{
			"-D", tmp, "-U", User, "-A", "scram-sha-256", "--pwfile", filepath.Join(cfg.DataDir, "password"),
			"-E", "UTF8", "--locale=C", "--lc-ctype=" + ctype, "-T", "simple",
		}
		if cfg.FastUnsafe {
			args = append(args, "--no-sync")
		}
		cmd := exec.CommandContext(ctx, programs.path("initdb"), args...)
		cmd.Dir = cfg.DataDir
		cmd.Env = environment()
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: account.Credential()}
		out, runErr := cmd.CombinedOutput()
		if runErr == nil {
			return os.Rename(tmp, data)
		}
		err = fmt.Errorf("initdb: %w: %s", runErr, strings.TrimSpace(string(out)))
		if !strings.Contains(string(out), "invalid locale") {
			break
		}
	}
	return err
}

func serverArgs(cfg Config, data string, port int) []string {
	settings := map[string]string{
		"listen_addresses":        "127.0.0.1",
		"port":                    strconv.Itoa(port),
		"unix_socket_directories": "", // paths of sockets are limited to about 100 bytes, those of folders aren't
		"max_connections":         "200",
		"timezone":                "UTC",
		"log_timezone":            "UTC",
		"logging_collector":       "off",
	}
	if cfg.FastUnsafe {
		settings["fsync"] = "off"
		settings["synchronous_commit"] = "off"
		settings["full_page_writes"] = "off"
	}
	for name, value := range cfg.Settings {
		settings[name] = value
	}
	args := []string{"-D", data}
	names := make([]string, 0, len(settings))
	for name := range settings {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		args = append(args, "-c", name+"="+settings[name])
	}
	return args
}

// environment is all that the programs see. LC_ALL keeps macOS from starting threads for locales.
func environment() []string {
	return []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
}

func databaseURL(password string, port int, database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(User, password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// choosePort settles the port and remembers it.
func (cfg Config) choosePort(ctx context.Context) (int, error) {
	if cfg.Port != 0 {
		return cfg.Port, nil
	}
	path := filepath.Join(cfg.DataDir, "port")
	if content, err := os.ReadFile(path); err == nil {
		if port, err := strconv.Atoi(strings.TrimSpace(string(content))); err == nil {
			if _, err := probePort(ctx, port); err == nil {
				return port, nil
			}
		}
	}
	port, err := probePort(ctx, 0)
	if err != nil {
		return 0, err
	}
	if err := os.WriteFile(path, []byte(strconv.Itoa(port)+"\n"), 0o600); err != nil {
		return 0, fmt.Errorf("remember port: %w", err)
	}
	return port, nil
}

// probePort returns the port when nothing listens on it, and a free one for 0.
func probePort(ctx context.Context, port int) (int, error) {
	var config net.ListenConfig
	l, err := config.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	addr, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return 0, fmt.Errorf("find a free port: unexpected address %v", l.Addr())
	}
	return addr.Port, l.Close()
}
