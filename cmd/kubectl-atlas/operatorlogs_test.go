package main

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/atlas-platform/atlas/api/v1alpha1"
)

// TestLinesOfTheOperatorsLog: one that names another namespace, wherever it does so, is somebody else's.
func TestLinesOfTheOperatorsLog(t *testing.T) {
	t.Parallel()
	b := collector{stack: &v1alpha1.AtlasStack{ObjectMeta: metav1.ObjectMeta{Namespace: "team-a", Name: "demo"}}, uses: servicesIn([]byte(`{"brokers":["kafka.kafka.svc:9092"]}`))}
	for line, kept := range map[string]bool{
		`{"level":"INFO","msg":"rolled out","controller":"atlasstack","AtlasStack":{"name":"demo","namespace":"team-a"},"namespace":"team-a","name":"demo"}`: true,
		`{"level":"INFO","msg":"Starting workers","controller":"atlasstack","controllerGroup":"platform.atlas.dev","source":"kind source: *v1.Deployment"}`:  true,
		`{"msg":"failed","namespace":"team-a","err":"Secret login does not exist in namespace team-a: create it"}`:                                           true,
		`{"msg":"failed","namespace":"team-a","err":"the namespace of the stack ends","url":"http://demo-api.team-a.svc:80"}`:                                true,
		`{"msg":"failed","namespace":"team-a","err":"dial kafka-0.kafka-brokers.kafka.svc.cluster.local: refused"}`:                                          true,
		`{"msg":"failed","err":"dial kafka-0.kafka-brokers.kafka.svc.cluster.local: refused"}`:                                                               false,
		`{"msg":"failed","namespace":"kafka","err":"dial demo-api.team-a.svc: refused"}`:                                                                     false,
		"panic: runtime error: invalid memory address or nil pointer dereference":                                                                            true,
		"[signal SIGSEGV: segmentation violation code=0x1 addr=0x0 pc=0x1]":                                                                                  true,
		"goroutine 1 [running]:":        true,
		"main.run({0xc0001, 0x2, 0x2})": true,
		"github.com/atlas-platform/atlas/controllers.(*Reconciler).pass(0xc01)": true,
		"\t/src/main.go:88 +0x1d4": true,
		"":                         true,

		`{"msg":"of others","namespace":"team-b"}`: false,
		`{"msg":"Server rejected event (will not retry!)","event":{"metadata":{"name":"demo.18","namespace":"team-b"},"note":"x","regarding":{"kind":"AtlasStack","namespace":"team-b","name":"demo"}},"err":"forbidden"}`: false,
		`{"msg":"Server rejected event (will not retry!)","event":{"metadata":{"name":"demo.18","namespace":"team-a"},"regarding":{"namespace":"team-b"}}}`:                                                                false,
		`{"msg":"x","namespace":"team-a","others":[{"Namespace":"team-b","Name":"demo"}]}`:                                                                                                                                 false,
		`{"msg":"x","event":"&Event{ObjectMeta:{demo.18  team-b},Regarding:{Kind:AtlasStack,Namespace:team-b,Name:demo}}"}`:                                                                                                false,
		`{"msg":"rejected: ObjectMeta{Name:\"demo\", Namespace:\"team-b\"}"}`:                                                                                                                                              false,
		`{"msg":"x","body":"{\"metadata\":{\"namespace\":\"team-b\"}}"}`:                                                                                                                                                   false,
		`{"msg":"x","err":"secrets \"login\" is forbidden: User \"u\" cannot get resource \"secrets\" in API group \"\" in the namespace \"team-b\""}`:                                                                     false,
		`{"msg":"x","namespace":"team-a","err":"AtlasStack demo in namespace team-b has it"}`:                                                                                                                              false,
		`{"msg":"x","err":"Get \"https://10.0.0.1/api/v1/namespaces/team-b/secrets/login\": timeout"}`:                                                                                                                     false,
		`{"msg":"x","namespace":"team-a","err":"dial postgres.team-b.svc.cluster.local: refused"}`:                                                                                                                         false,
		`{"msg":"x","namespace":"team-a","event":"&Event{{ } {demo.18  team-b} pa55}"}`:                                                                                                                                    false,
		`{"msg":"x","key":"team-b/demo"}`:                 false,
		`{"msg":"cannot sync AtlasStack team-b/demo"}`:    false,
		`{"msg":"x","namespaces":["team-a","team-b"]}`:    false,
		`{"msg":"x","Namespace":{"name":"team-b"}}`:       false,
		`{"msg":"cut off in the middle","event":{"meta`:   false,
		`data":{"name":"demo.18","note":"pa55"}}`:         false,
		"E1122 something.go:12] team-b has a problem":     false,
		`panic: cannot handle {"namespace":"team-b"}`:     false,
		`panic: no such Secret in the namespace "team-b"`: false,
	} {
		require.Equal(t, kept, len(b.ours([]byte(line+"\n"))) > 0, line)
	}
}
