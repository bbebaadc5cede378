/* Runs an exported encoder by TensorFlow's C API alone.
 *
 *   encode MODEL_DIR INPUT OUTPUT COUNT SIDE < float32 pixels > packed codes
 *
 * INPUT and OUTPUT are the names of the graph's tensors, such as serving_default_images:0.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tensorflow/c/c_api.h"

static TF_Status *status;

static void check(const char *what) {
  if (TF_GetCode(status) != TF_OK) {
    fprintf(stderr, "%s: %s\n", what, TF_Message(status));
    exit(1);
  }
}

static TF_Output tensor(TF_Graph *graph, char *name) {
  char *colon = strrchr(name, ':');
  if (!colon) exit(2);
  *colon = 0;
  TF_Output output = {TF_GraphOperationByName(graph, name), atoi(colon + 1)};
  if (!output.oper) {
    fprintf(stderr, "no operation %s\n", name);
    exit(1);
  }
  return output;
}

int main(int argc, char **argv) {
  if (argc != 6) return 2;
  const int64_t count = atoll(argv[4]), side = atoll(argv[5]);
  const int64_t shape[4] = {count, side, side, 3};
  const char *tags[] = {"serve"};

  status = TF_NewStatus();
  TF_Graph *graph = TF_NewGraph();
  TF_SessionOptions *options = TF_NewSessionOptions();
  TF_Session *session = TF_LoadSessionFromSavedModel(options, NULL, argv[1], tags, 1, graph, NULL, status);
  check("load");

  TF_Tensor *images = TF_AllocateTensor(TF_FLOAT, shape, 4, count * side * side * 3 * sizeof(float));
  if (fread(TF_TensorData(images), 1, TF_TensorByteSize(images), stdin) != TF_TensorByteSize(images)) return 3;

  TF_Output input = tensor(graph, argv[2]), output = tensor(graph, argv[3]);
  TF_Tensor *codes = NULL;
  TF_SessionRun(session, NULL, &input, &images, 1, &output, &codes, 1, NULL, 0, NULL, status);
  check("run");
  if (TF_TensorType(codes) != TF_UINT8 || TF_NumDims(codes) != 2 || TF_Dim(codes, 0) != count) return 4;
  fwrite(TF_TensorData(codes), 1, TF_TensorByteSize(codes), stdout);
  return 0;
}
