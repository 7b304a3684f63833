package process

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"time"
)

// Ports are chosen below the range that kernels use for outgoing connections (from 32768), so that a remembered
// port is not taken by a passing connection while its server is down.
const (
	lowestPort  = 20000
	highestPort = 32000
)

// Port returns a port on 127.0.0.1 for a use such as "postgres": the one that was used last time when it is still free,
// else a new free one, which is remembered. Call it with the state's lock held, and only while the server is down.
func (s *State) Port(use string) (int, error) {
	s.ports.Lock()
	defer s.ports.Unlock()
	ports, err := readPorts(s.Path("ports.json"))
	if err != nil {
		return 0, err
	}
	if port, ok := ports[use]; ok && soonFree(port) {
		return port, nil
	}
	taken := s.portsOfOthers()
	for other, port := range ports {
		if other != use {
			taken[port] = true
		}
	}
	for range 500 {
		port := lowestPort + rand.IntN(highestPort-lowestPort)
		if taken[port] || !portFree(port) {
			continue
		}
		ports[use] = port
		if err := writeJSON(s.Path("ports.json"), ports); err != nil {
			return 0, fmt.Errorf("remember port: %w", err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("no free port for %s on 127.0.0.1", use)
}

// KnownPort returns the port that is remembered for a use: the one of a running server.
func (s *State) KnownPort(use string) (int, error) {
	ports, err := readPorts(s.Path("ports.json"))
	if err != nil {
		return 0, err
	}
	port, ok := ports[use]
	if !ok {
		return 0, fmt.Errorf("no port is remembered for %s", use)
	}
	return port, nil
}

// portsOfOthers returns the ports that other instances remember, so that one that is down keeps its own.
func (s *State) portsOfOthers() map[int]bool {
	taken := map[int]bool{}
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(s.Dir), "*", "ports.json"))
	for _, file := range files {
		if filepath.Dir(file) == s.Dir {
			continue
		}
		ports, err := readPorts(file)
		if err != nil {
			continue
		}
		for _, port := range ports {
			taken[port] = true
		}
	}
	return taken
}

// soonFree gives a server that was just killed the moment that the kernel needs to close its sockets.
func soonFree(port int) bool {
	limit := time.After(2 * time.Second)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !portFree(port) {
		select {
		case <-limit:
			return false
		case <-tick.C:
		}
	}
	return true
}

func portFree(port int) bool {
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
	if err != nil {
		return false
	}
	return l.Close() == nil
}

func readPorts(path string) (map[string]int, error) {
	ports := map[string]int{}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return ports, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read ports: %w", err)
	}
	if err := json.Unmarshal(data, &ports); err != nil {
		return nil, fmt.Errorf("read ports %s: %w", path, err)
	}
	return ports, nil
}
