uint32_t xTaskGetTickCount(void);
void vTaskDelay(uint32_t ticks);
