// Command accept does what the API server of Kubeflow Pipelines does with a run of a pipeline: it
// reads both YAML documents, validates the parameters and prints the Argo workflow.
//
// It is built inside a checkout of kubeflow/pipelines, as backend/src/v2/cmd/accept. The program
// compiler there reads only the first document, so that its workflow mounts no volume.
package main

import (
	"flag"
	"fmt"
	"os"

	"github.com/kubeflow/pipelines/backend/src/apiserver/config/proxy"
	"github.com/kubeflow/pipelines/backend/src/apiserver/model"
	"github.com/kubeflow/pipelines/backend/src/apiserver/template"
	"github.com/spf13/viper"
)

func main() {
	spec := flag.String("spec", "", "compiled pipeline")
	root := flag.String("pipeline_root", "", "pipeline root")
	parameters := flag.String("parameters", "{}", "parameters of the run as JSON")
	runID := flag.String("run_id", "run-1", "ID of the run")
	cacheDisabled := flag.Bool("cache_disabled", false, "disable the cache")
	flag.Parse()
	viper.AutomaticEnv()
	proxy.InitializeConfig("", "", "")
	if err := run(*spec, *root, *parameters, *runID, *cacheDisabled); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(spec, root, parameters, runID string, cacheDisabled bool) error {
	text, err := os.ReadFile(spec)
	if err != nil {
		return err
	}
	found, err := template.New(text, template.TemplateOptions{CacheDisabled: cacheDisabled})
	if err != nil {
		return err
	}
	modelRun := &model.Run{DisplayName: "a run", K8SName: "a-run", Namespace: "kubeflow"}
	modelRun.RuntimeConfig.Parameters = model.LargeText(parameters)
	modelRun.RuntimeConfig.PipelineRoot = model.LargeText(root)
	workflow, err := found.RunWorkflow(modelRun, template.RunWorkflowOptions{RunID: runID})
	if err != nil {
		return err
	}
	_, err = fmt.Println(workflow.ToStringForStore())
	return err
}
