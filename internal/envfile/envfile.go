// Package envfile writes the addresses of a running Atlas as shell assignments, and tells later whether an address in the environment came
// from such a file. Without that, a shell that has read one environment's file would point the next environment at the first one's servers.
package envfile

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
)

// Marker is the variable that lists what a file set: a short hash of each NAME=VALUE, so that it names nothing and reveals nothing.
const Marker = "ATLAS_ENV_FILE"

// Var is one environment variable.
type Var struct{ Name, Value string }

// Format renders variables, and the marker that remembers them, as lines that a POSIX shell reads with `.` or eval. The last line exports
// them to the programs that the shell starts.
func Format(vars []Var) string {
	names, marks := make([]string, len(vars)), make([]string, len(vars))
	var b strings.Builder
	for i, v := range vars {
		names[i], marks[i] = v.Name, mark(v.Name, v.Value)
		b.WriteString(v.Name + "=" + quote(v.Value) + "\n")
	}
	b.WriteString(Marker + "=" + strings.Join(marks, ",") + "\n")
	b.WriteString("export " + strings.Join(append(names, Marker), " ") + "\n")
	return b.String()
}

// Given returns the value that the user set, and "" when a file that this package wrote set it.
func Given(getenv func(string) string, name string) string {
	value := getenv(name)
	if slices.Contains(strings.Split(getenv(Marker), ","), mark(name, value)) {
		return ""
	}
	return value
}

func mark(name, value string) string {
	sum := sha256.Sum256([]byte(name + "=" + value))
	return hex.EncodeToString(sum[:6])
}

func quote(s string) string {
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
