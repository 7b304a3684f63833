package demo

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func write(t *testing.T, dir, path, content string) {
	t.Helper()
	full := filepath.Join(dir, path)
	require.NoError(t, os.MkdirAll(filepath.Dir(full), 0o755))
	require.NoError(t, os.WriteFile(full, []byte(content), 0o644))
}

func TestReadCorpusNamesAndGroupsDocuments(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	body := strings.Repeat("words ", 50)
	write(t, dir, "github.com/!i!b!m/sarama@v1.0.0/README.md", "# Sarama\n"+body)
	write(t, dir, "github.com/!i!b!m/sarama@v1.1.0/README.md", "# Sarama\n"+body) // the same document in another version
	write(t, dir, "k8s.io/api@v0.1.0/CHANGELOG.md", body)
	write(t, dir, "k8s.io/api@v0.1.0/short.md", "short")
	write(t, dir, "k8s.io/api@v0.1.0/binary.md", "\x00"+body)
	write(t, dir, "cache/download/x.md", body+"cached")

	docs, err := readCorpus(dir, 10)
	require.NoError(t, err)
	require.Len(t, docs, 2)
	require.Equal(t, "Sarama", docs[0].title)
	require.Equal(t, "GitHub", docs[0].collection)
	require.Equal(t, []string{"github.com/IBM/sarama", "readme"}, docs[0].tags)
	require.Equal(t, "k8s.io/api/CHANGELOG.md", docs[1].title)
	require.Equal(t, "Kubernetes", docs[1].collection)
	require.Equal(t, "changelog", docs[1].tags[1])
}

func TestReadCorpusCutsLongDocumentsWhenThereAreTooFew(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	section := strings.Repeat("words ", 50)
	write(t, dir, "a.example/m@v1.0.0/README.md", "# Top\n"+section+"\n## One\n"+section+"\n## Two\n"+section)
	docs, err := readCorpus(dir, 3)
	require.NoError(t, err)
	require.Len(t, docs, 3)
	require.Equal(t, "Top: Two", docs[2].title)
}

func TestReadCorpusWithoutDocumentsSaysSo(t *testing.T) {
	t.Parallel()
	_, err := readCorpus(t.TempDir(), 3)
	require.ErrorContains(t, err, "--dir")
}

func TestTruncateKeepsRunesWhole(t *testing.T) {
	t.Parallel()
	require.Equal(t, "ä", truncate("äö", 3))
	require.Equal(t, "äö", truncate("äö", 4))
}
